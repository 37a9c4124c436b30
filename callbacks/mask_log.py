"""What the masks of a run select, logged at validations."""

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

from cmgems.callbacks.training_log import is_final, write
from cmgems.data_modules.windows import WindowBatch
from cmgems.masking.mask_statistics import mask_statistics, rank_fractions
from cmgems.training.module import Pretraining


class MaskLog(L.Callback):
    """Masks the first validation batch as the run does at this step, and logs what that selects:
    the fields of `MaskStatistics` as scalars, the ranks of masked and other tokens as histograms.
    """

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        module: Pretraining,
        batch: WindowBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx or is_final(trainer) or not trainer.is_global_zero:
            return
        masker = module.masker
        tokenization = masker.tokenization
        masked = masker(batch, module.plan)
        ids_BK, mask_BK = masked.ids_BK, masked.mask_BK
        statistics = mask_statistics(batch.codes_BL, ids_BK, mask_BK, masker.rank_V, tokenization)
        write(trainer, {f"masks/{name}": value for name, value in statistics._asdict().items()})
        rank_BK = rank_fractions(ids_BK, masker.rank_V, tokenization)
        ranked_BK = ~rank_BK.isnan()
        masked_BK = mask_BK & ranked_BK
        others_BK = tokenization.is_maskable(ids_BK) & ~mask_BK & ranked_BK
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and masked_BK.any():
                step = trainer.global_step
                logger.experiment.add_histogram("masks/rank_of_masked", rank_BK[masked_BK], step)
                logger.experiment.add_histogram("masks/rank_of_others", rank_BK[others_BK], step)
