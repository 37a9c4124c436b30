"""The epoch of a training that is best on dev, for each of the models that train side by side."""

import numpy as np
import torch

from cmgems.data_modules.classification import ClassificationDataModule
from cmgems.evaluation.finetuning.train import Classifiers, LabelScale, answer
from cmgems.evaluation.metrics import score
from cmgems.tasks.task import Task


class BestEpoch:
    """After each epoch: keeps of each model the weights that are best on dev.

    Parameters
    ----------
    model : of G classifiers that are in training
    data : with a dev split, its labels in the unit of the files
    its_task : its official metric is what counts
    scale : from answers to the unit of the labels
    """

    def __init__(
        self,
        model: Classifiers,
        data: ClassificationDataModule,
        its_task: Task,
        scale: LabelScale,
        bf16: bool,
    ):
        self.model, self.task, self.scale, self.bf16 = model, its_task, scale, bf16
        self.dev, self.labels = data.val_dataloader(), data.dev.labels.numpy()
        models = len(next(model.parameters()))
        self.scores, self.epochs = [-np.inf] * models, [0] * models
        self.weights = {name: x.detach().clone() for name, x in model.named_parameters()}

    def __call__(self, epoch: int) -> None:
        answers = self.scale.answers(answer(self.model, self.dev, self.bf16))
        for g, its in enumerate(answers):
            found = float(getattr(score(its, self.labels, self.task.kind), self.task.metric))
            if found > self.scores[g]:
                self.scores[g], self.epochs[g] = found, epoch
                for name, x in self.model.named_parameters():
                    self.weights[name][g] = x.detach()[g]

    def take(self) -> list[dict[str, float]]:
        """Put the best weights back."""
        with torch.no_grad():
            for name, x in self.model.named_parameters():
                x.copy_(self.weights[name])
        return [
            {"epoch": epoch + 1, f"dev_{self.task.metric}": found}
            for epoch, found in zip(self.epochs, self.scores, strict=True)
        ]
