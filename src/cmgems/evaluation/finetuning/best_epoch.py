"""The epoch of a training that is best on dev, for each of the models that train side by side."""

import numpy as np
import torch

from cmgems.data_modules.classification import ClassificationDataModule, evaluation_loader
from cmgems.evaluation.finetuning.train import Classifiers, LabelScale, predict_logits
from cmgems.evaluation.metrics import score
from cmgems.tasks.task import Task


class BestEpoch:
    """Called after each epoch: saves the weights of each model that are best on dev.

    Parameters
    ----------
    model : of G classifiers that are in training
    data : with a dev split, its labels in the unit of the files, on as many strands as `model`
    task : its official metric is what counts
    scale : from logits to the unit of the labels
    """

    def __init__(
        self,
        model: Classifiers,
        data: ClassificationDataModule,
        task: Task,
        scale: LabelScale,
        bf16: bool,
    ) -> None:
        self.model, self.task, self.scale, self.bf16 = model, task, scale, bf16
        assert data.dev is not None
        assert data.dev.labels is not None
        self.dev = evaluation_loader(data.dev)
        self.labels = data.dev.labels.numpy()[: len(data.dev.labels) // model.strands]
        models = len(next(model.parameters()))
        self.scores, self.epochs = [-np.inf] * models, [0] * models
        self.weights = {name: x.detach().clone() for name, x in model.named_parameters()}

    def __call__(self, epoch: int) -> None:
        predictions = self.scale.to_label_units(predict_logits(self.model, self.dev, self.bf16))
        for g, own in enumerate(predictions):
            value = float(getattr(score(own, self.labels, self.task.kind), self.task.metric))
            if value > self.scores[g]:
                self.scores[g], self.epochs[g] = value, epoch
                for name, x in self.model.named_parameters():
                    self.weights[name][g] = x.detach()[g]

    def restore_best(self) -> list[dict[str, float]]:
        """Put the best weights back; return the epoch and the dev score of each model."""
        with torch.no_grad():
            for name, x in self.model.named_parameters():
                x.copy_(self.weights[name])
        return [
            {"epoch": epoch + 1, f"dev_{self.task.metric}": value}
            for epoch, value in zip(self.epochs, self.scores, strict=True)
        ]
