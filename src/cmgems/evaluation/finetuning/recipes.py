"""How a classifier is trained: the published recipes, by what there is to train on."""

from dataclasses import asdict, dataclass, replace

from cmgems.tasks.task import Task

# An encoder whose weights stay lets a new head (or adapters) learn faster: chosen here, not in a
# paper.
HEAD_ONLY_FACTOR = 10.0


@dataclass(frozen=True)
class Recipe:
    """AdamW, its learning rate rising linearly and then falling linearly to 0."""

    learning_rate: float
    epochs: int
    batch_size: int
    warmup_fraction: float = 0.1  # of the steps; where `warmup_steps` is 0
    warmup_steps: int = 0
    max_steps: int = 0  # 0: as many as the epochs have
    dropout: float = 0.1
    weight_decay: float = 0.01  # on matrices
    max_grad_norm: float = 1.0  # largest norm of a model's gradient; 0: no clipping

    def steps(self, examples: int) -> int:
        """Optimizer steps on a training set of this size."""
        steps = -(-examples // self.batch_size) * self.epochs
        return min(steps, self.max_steps) if self.max_steps else steps

    def warmup(self, steps: int) -> int:
        """Steps of warm-up in a training of so many steps."""
        return self.warmup_steps or round(self.warmup_fraction * steps)


def few_shot_recipe(shots: int) -> Recipe:
    """That of CM-GEMS and GeneMask: one up to 100 examples per class, another above."""
    if shots <= 100:
        return Recipe(learning_rate=1e-4, epochs=20, batch_size=5)
    return Recipe(learning_rate=5e-5, epochs=5, batch_size=15)


def full_recipe(task: Task) -> Recipe:
    """That of the task's publishers (GUE: learning rate 3e-5, batch size 32, warm-up 50 steps)."""
    return Recipe(**asdict(task.recipe))


def with_learning_rate_for(recipe: Recipe, finetune: str) -> Recipe:
    """The recipe, with a higher learning rate where the encoder's weights stay."""
    if finetune == "full":
        return recipe
    return replace(recipe, learning_rate=recipe.learning_rate * HEAD_ONLY_FACTOR)
