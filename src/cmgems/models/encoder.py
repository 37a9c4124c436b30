"""The whole encoder in one file: a transformer on packed tokens, described by its config.

Sequences are packed, not padded: the tokens of all sequences of a batch are concatenated, and only
attention and convolutions look at where one ends and the next begins. The last layer
computes queries, output projection and feed-forward for the predicted positions alone: the loss
reads nothing else, so this is exact, and it saves most of a shallow encoder's last layer.

The same forward pass serves padded batches (`PaddedLayout`) and, where the weights have a model
axis in front (`cmgems.models.stacked`), several models side by side.

Shapes: B sequences, T tokens of the batch (packed), M predicted positions, D width, H heads,
E = D / H, F feed-forward width, V vocabulary, S the longest sequence.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmgems.models.blocks import MLPS, ConvolutionStem, Embedding, LayerNorm, drop_masked
from cmgems.models.dropout import Dropout
from cmgems.models.layouts import Layout, SequenceLayout
from cmgems.models.linear import Linear, linear
from cmgems.models.mixers import Convolution, SelfAttention
from cmgems.models.positions import POSITIONS, ROTARY_BASE, AttentionPositions

ALIGNED = 64  # classes of the output product are a multiple of this on a GPU
MLP_BIASES = {"all": (True, True), "down": (False, True), "none": (False, False)}  # up and down


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes of an encoder and its kinds of blocks; the defaults are BERT's."""

    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    max_position_embeddings: int = 512  # most tokens of a sequence, [CLS] and [SEP] included
    sep_token: bool = True  # whether [SEP] ends the sequences that the encoder sees
    dropout: float = 0.0
    norm: str = "post"  # a key of `LAYERS`
    embedding_norm: bool = True
    token_dropout: bool = False  # ESM's: see `drop_masked`
    position_embedding: str = "learned"  # a key of `POSITIONS`
    mlp: str = "gelu"  # a key of `MLPS`
    biases: bool = True  # of products and LayerNorms; the output's over the vocabulary stays
    mlp_biases: str = "all"  # of the feed-forward's products: a key of `MLP_BIASES`
    tie_embeddings: bool = True  # the output weights are the token embeddings
    rotary_base: float = ROTARY_BASE
    local_attention: int = 0  # tokens seen in a local layer, half of them on each side; 0: all
    global_attention_every_n_layers: int = 1  # the first is global; 0: none is
    local_rotary_base: float = ROTARY_BASE  # of local layers
    conv_stem: int = 0  # kernel width in tokens, odd; 0: none
    attention_every_n_layers: int = 1  # the other layers are convolutions; 0: all are
    conv_kernel: int = 9  # tokens that a convolution layer spans, odd
    conv_dilations: tuple[int, ...] = (1,)  # of the convolution layers in turn
    norm_eps: float = 1e-12  # of every LayerNorm
    approximate_gelu: bool = False  # with tanh, in feed-forwards and head, as the first BERT had it

    def conv_dilation(self, layer: int) -> int | None:
        """The dilation of a layer (0 for the first); None for one with attention."""
        every = self.attention_every_n_layers
        if every and (layer + 1) % every == 0:
            return None
        convolutions_before = layer - (layer // every if every else 0)
        return self.conv_dilations[convolutions_before % len(self.conv_dilations)]

    def reach(self, layer: int) -> int | None:
        """How many tokens to each side are seen in a layer (0 for the first); None: all."""
        every = self.global_attention_every_n_layers
        if not self.local_attention or (every and layer % every == 0):
            return None
        return self.local_attention // 2

    def layer_rotary_base(self, layer: int) -> float:
        """The base of the rotary positions of a layer (0 for the first)."""
        return self.rotary_base if self.reach(layer) is None else self.local_rotary_base

    @property
    def gelu(self) -> str:
        """The `approximate` of torch's GELU."""
        return "tanh" if self.approximate_gelu else "none"

    @property
    def feed_forward_biases(self) -> tuple[bool, bool]:
        """Whether the products of the feed-forward, up and down, have biases."""
        up, down = MLP_BIASES[self.mlp_biases]
        return self.biases and up, self.biases and down


class Encoder(nn.Module):
    """Token ids in, contextual hidden states out."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.config = config
        # Arithmetic behind the embeddings; None: that of the weights. The weights stay what they
        # are and are rounded where they are used, so their updates and gradients add up in float32.
        self.compute_dtype: torch.dtype | None = None
        width, biases = config.hidden_size, config.biases
        self.tokens = Embedding(config.vocab_size, width)
        self.positions = POSITIONS[config.position_embedding](
            config.max_position_embeddings, width, config.num_heads
        )
        self.stem = ConvolutionStem(width, config.conv_stem, biases) if config.conv_stem else None
        self.norm = _norm(config) if config.embedding_norm else nn.Identity()
        self.layers = nn.ModuleList(
            LAYERS[config.norm](config, number) for number in range(config.num_layers)
        )
        self.final_norm = _norm(config) if config.norm == "pre" else nn.Identity()
        initialize_bert(self)

    def forward(
        self,
        ids_T: Tensor,
        layout: Layout,
        at_M: Tensor | None = None,
        num_layers: int | None = None,
        dropout: Dropout | None = None,
        earlier: list[Tensor] | None = None,
    ) -> Tensor:
        """Hidden states [M, D] at the packed positions `at_M` (int64), or [T, D] at all of them.

        Parameters
        ----------
        ids_T : token ids
        layout : where each token belongs
        at_M : ascending
        num_layers : how many to run, 0 gives the embeddings; None: all
        dropout : None: torch's, at the config's rate, in training
        earlier : gets the states [T, D] in front of each layer that runs; None: they are not kept
        """
        dropout = dropout or Dropout(self.config.dropout if self.training else 0.0)
        x_TD = self.tokens(ids_T)
        if self.config.token_dropout:
            x_TD = drop_masked(x_TD, ids_T, layout.position_ids)
        x_TD = self.positions.embed(x_TD, layout.position_ids)
        dtype = self.compute_dtype or x_TD.dtype
        if self.stem is not None:
            x_TD = self.stem(x_TD, layout.position_ids, dtype)
        x_TD = dropout(self.norm(x_TD)).to(dtype)
        layers = list(self.layers)[:num_layers]
        if not layers:
            return _select(x_TD, at_M)
        bases = [self.config.layer_rotary_base(number) for number in range(len(layers))]
        positions = {
            base: self.positions.for_attention(layout.position_ids, dtype, base)
            for base in dict.fromkeys(bases)
        }
        for layer, base in zip(layers[:-1], bases, strict=False):
            if earlier is not None:
                earlier.append(x_TD)
            x_TD = layer(x_TD, layout, None, positions[base], dropout)
        if earlier is not None:
            earlier.append(x_TD)
        x_MD = layers[-1](x_TD, layout, at_M, positions[bases[-1]], dropout)
        return self.final_norm(x_MD) if len(layers) == len(self.layers) else x_MD


class Layer(nn.Module):
    """Attention or convolution, and feed-forward, each with a residual sum and a LayerNorm."""

    def __init__(self, config: EncoderConfig, number: int):
        super().__init__()
        self.mixer = build_mixer(config, number)
        # The first layer's input is normalized by the embeddings' LayerNorm, where there is one.
        normalized = config.norm == "pre" and config.embedding_norm and number == 0
        self.mixer_norm = nn.Identity() if normalized else _norm(config)
        self.mlp = MLPS[config.mlp](
            config.hidden_size, config.intermediate_size, config.feed_forward_biases
        )
        self.mlp.gelu = config.gelu
        self.norm = _norm(config)


class PostNormLayer(Layer):
    """LayerNorm behind each sum, as in BERT."""

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        at_M: Tensor | None,
        positions: AttentionPositions,
        dropout: Dropout,
    ) -> Tensor:
        x_MD = _select(x_TD, at_M)
        mixed = self.mixer(x_MD, x_TD, layout, at_M, positions, dropout)
        x_MD = self.mixer_norm(x_MD + dropout(mixed))
        return self.norm(x_MD + dropout(self.mlp(x_MD)))


class PreNormLayer(Layer):
    """LayerNorm in front of attention and feed-forward; sums stay as they are."""

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        at_M: Tensor | None,
        positions: AttentionPositions,
        dropout: Dropout,
    ) -> Tensor:
        normed_TD = self.mixer_norm(x_TD)
        normed_MD = _select(normed_TD, at_M)
        mixed = self.mixer(normed_MD, normed_TD, layout, at_M, positions, dropout)
        x_MD = _select(x_TD, at_M) + dropout(mixed)
        return x_MD + dropout(self.mlp(self.norm(x_MD)))


LAYERS: dict[str, type[Layer]] = {"post": PostNormLayer, "pre": PreNormLayer}


def build_mixer(config: EncoderConfig, layer: int) -> SelfAttention | Convolution:
    """What mixes the tokens in a layer (0 for the first)."""
    dilation = config.conv_dilation(layer)
    if dilation is None:
        reach = config.reach(layer)
        return SelfAttention(config.hidden_size, config.num_heads, config.biases, reach)
    return Convolution(config.hidden_size, config.conv_kernel, dilation, config.biases)


class MaskedLanguageModel(nn.Module):
    """Encoder and BERT's prediction head, whose output weights are the token embeddings.

    With `tie_embeddings` false they are weights of their own, `decoder`.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        self.encoder = Encoder(config)
        self.head_dense = Linear(config.hidden_size, config.hidden_size, config.biases)
        self.norm = _norm(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        tied = config.tie_embeddings
        self.decoder = None if tied else Linear(config.hidden_size, config.vocab_size, False)
        initialize_bert(self)

    def forward(self, ids_T: Tensor, layout: SequenceLayout, at_M: Tensor) -> Tensor:
        """Logits [M, V] at the packed positions `at_M`."""
        x_MD = self.encoder(ids_T, layout, at_M)
        x_MD = self.norm(F.gelu(self.head_dense(x_MD), approximate=self.encoder.config.gelu))
        output = self.encoder.tokens if self.decoder is None else self.decoder
        return logits(x_MD, output.weight, self.bias)


def logits(x_MD: Tensor, weight_VD: Tensor, bias_V: Tensor) -> Tensor:
    """[M, V]: x W^T + b."""
    half = x_MD.dtype in (torch.bfloat16, torch.float16)
    product = aligned_linear if x_MD.is_cuda and half else linear
    return product(x_MD, weight_VD, bias_V)


def aligned_linear(x_MD: Tensor, weight_VD: Tensor, bias_V: Tensor) -> Tensor:
    """`linear` with V filled up to a multiple of 64 within the product: rows of odd length (4101)
    are not aligned. The extra classes are cut off again."""
    classes = len(weight_VD)
    extra = -classes % ALIGNED
    padded = F.pad(weight_VD, (0, 0, 0, extra)), F.pad(bias_V, (0, extra))
    return linear(x_MD, *padded)[:, :classes]


def initialize_bert(module: nn.Module) -> None:
    """BERT's initialization: weights normal with deviation 0.02, biases 0, LayerNorm 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)


def _norm(config: EncoderConfig) -> LayerNorm:
    return LayerNorm(config.hidden_size, config.biases, config.norm_eps)


def _select(x_TD: Tensor, at_M: Tensor | None) -> Tensor:
    return x_TD if at_M is None else x_TD[..., at_M, :]
