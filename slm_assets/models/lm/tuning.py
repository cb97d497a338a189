"""Fine-tuning: loss on the answer alone, rows and roles in balance, ended by what is generated and not by the loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slm_assets.models.lm import state
from slm_assets.models.lm.network import put, trainable
from slm_assets.models.lm.settings import Settings

SAVE_SECONDS = 60.0
"""A state is saved at every look, and when so much time has passed."""


class Example(NamedTuple):
    """A row as tokens; only the answer is learned."""

    prompt: list[int]
    answer: list[int]


class Score(NamedTuple):
    """Of the validation rows' generated answers: how many are right, and the mean share of their leaves that are."""

    exact: float
    part: float


@dataclass(frozen=True)
class Tuned:
    """What training did. `stopped`: why it ended; `tokens`, `seconds`: read, and spent on reading them, this time."""

    done: state.Progressed
    steps: int
    stopped: str
    tokens: int
    seconds: float
    resumed_at: int


Look = Callable[[], Score]
Tell = Callable[[float, str], None]


def steps_of(counts: Sequence[int], settings: Settings) -> int:
    """How many steps the epochs have."""
    step = settings.batch * settings.accumulate * settings.processes
    steps = max(1, math.ceil(settings.epochs * sum(counts) / step))
    return min(steps, settings.max_steps) if settings.max_steps else steps


def tune(
    network: Any, roles: Sequence[Sequence[Example]], settings: Settings, *, seed: int, fingerprint: str,
    folder: Path | None, look: Look | None, tell: Tell,
) -> Tuned:  # fmt: skip
    """Train the parameters that learn; they end as the best that a look saw, or as the last without looks.

    A row's loss is the mean over its own tokens, and roles take turns: neither a long answer nor a role of many rows
    outweighs the others. What comes when depends on seed and step alone, so that a resumed training gives the same.
    """
    run = _Run(network, roles, settings, seed)
    resumed_at = run.resume(folder, fingerprint)
    done, saved = run.done, time.monotonic()
    while done.step < run.steps and done.since < settings.patience:
        loss = run.step()
        at_look = done.step % settings.eval_every == 0 or done.step == run.steps
        if at_look and look is not None:
            run.look(look)
        speed = run.tokens / run.seconds
        tell(done.step / run.steps, f"step {done.step} of {run.steps}, loss {loss:.3f}, {speed:.0f} tokens/s")
        if folder is not None and (at_look or time.monotonic() - saved >= SAVE_SECONDS):
            run.save(folder, fingerprint)
            saved = time.monotonic()
    run.finish()
    early = f"no better answers in {settings.patience} looks"
    stopped = early if done.since >= settings.patience else "all steps done"
    return Tuned(done, run.steps, stopped, run.tokens, run.seconds, resumed_at)


class _Run:
    """A training under way: the model and optimizer as accelerate has them, and how far they came."""

    def __init__(self, network: Any, roles: Sequence[Sequence[Example]], settings: Settings, seed: int) -> None:
        import torch
        from accelerate import Accelerator

        cuda = torch.cuda.is_available()
        half = settings.precision == "bf16" or (
            settings.precision == "auto" and cuda and torch.cuda.is_bf16_supported()
        )
        self._machine = Accelerator(mixed_precision="bf16" if half else "no", cpu=not cuda)
        network.to(self._machine.device)
        self._network, self._roles, self._settings, self._seed = network, roles, settings, seed
        self.own = trainable(network)
        self._plain = torch.optim.AdamW(
            self.own.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._model, self._optimizer = self._machine.prepare(network, self._plain)
        self.steps = steps_of([len(own) for own in roles], settings)
        self.done, self.tokens, self.seconds = state.Progressed(), 0, 0.0
        self._best: dict[str, Any] = {}

    def resume(self, folder: Path | None, fingerprint: str) -> int:
        """Go on from what a kill left; returns the step."""
        import torch

        saved = state.load(folder, fingerprint)
        if saved is None:
            return 0
        self.done, tensors = saved
        put(self._network, _part(tensors, "p:"))
        self._best = _part(tensors, "b:")
        for name, parameter in self.own.items():
            self._plain.state[parameter] = {
                "step": torch.tensor(float(self.done.step)),
                "exp_avg": tensors[f"m:{name}"].to(parameter.device),
                "exp_avg_sq": tensors[f"v:{name}"].to(parameter.device),
            }
        return self.done.step

    def step(self) -> float:
        """One step; returns its loss."""
        import torch

        settings, machine, at = self._settings, self._machine, self.done.step
        began = time.perf_counter()
        self._model.train()
        torch.manual_seed(self._seed * 1_000_003 + at * settings.processes + machine.process_index)
        for group in self._optimizer.param_groups:
            group["lr"] = settings.learning_rate * _rate(at, self.steps, settings.warmup_share)
        loss = 0.0
        for part in range(settings.accumulate):
            rows = _rows(self._roles, settings, at, part, machine.process_index, self._seed)
            own_loss = _loss(self._model, rows, machine.device) / settings.accumulate
            machine.backward(own_loss)
            loss += float(own_loss.detach())
            self.tokens += sum(len(row.prompt) + len(row.answer) for row in rows)
        machine.clip_grad_norm_(list(self.own.values()), settings.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.done.step += 1
        self.done.losses.append(round(loss, 6))
        self.seconds += time.perf_counter() - began
        return loss

    def look(self, look: Look) -> None:
        """Answer the validation rows; what is best so far is kept, a tie goes to the later."""
        import torch

        self._model.eval()
        score = look()
        if self._machine.num_processes > 1:
            shared = self._machine.gather(torch.tensor([score], device=self._machine.device))
            score = Score(*shared[0].tolist())
        done, found = self.done, [score.exact, score.part]
        if found >= done.best:
            self._best = {name: value.detach().to("cpu", copy=True) for name, value in self.own.items()}
        done.since = 0 if found > done.best else done.since + 1
        done.best = max(done.best, found)
        loss = float(np.mean(done.losses[-self._settings.eval_every :]))
        numbers = {"step": done.step, "loss": loss, "exact": score.exact, "part": score.part}
        done.curve.append({name: round(value, 4) for name, value in numbers.items()})

    def save(self, folder: Path, fingerprint: str) -> None:
        """Keep the state."""
        if self._machine.is_main_process:
            state.save(folder, fingerprint, self.done, _tensors(self.own, self._plain, self._best))

    def finish(self) -> None:
        """Take the best weights."""
        if self._best:
            put(self._network, {name: tensor.to(self.own[name].device) for name, tensor in self._best.items()})
        self._model.eval()
        self._machine.wait_for_everyone()


def _rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate: up in a line, down in half a cosine."""
    rising = max(1, round(steps * warmup))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _rows(
    roles: Sequence[Sequence[Example]], settings: Settings, step: int, part: int, process: int, seed: int
) -> list[Example]:
    """The rows of one part of a step: roles in turn, each in a new order every time it is through."""
    whole = settings.batch * settings.accumulate * settings.processes
    start = step * whole + (part * settings.processes + process) * settings.batch
    found = []
    for place in range(start, start + settings.batch):
        role = place % len(roles)
        rows = roles[role]
        round_, index = divmod(place // len(roles), len(rows))
        order = np.random.default_rng([seed, role, round_]).permutation(len(rows))
        found.append(rows[order[index]])
    return found


def _loss(model: Any, rows: Sequence[Example], device: Any) -> Any:
    """Mean over rows of the mean over each row's answer. Padded on the left, so that answers end together."""
    import torch
    from torch.nn.functional import cross_entropy

    width = max(len(row.prompt) + len(row.answer) for row in rows)
    keep = max(len(row.answer) for row in rows)
    ids, seen, wanted = [], [], []
    for row in rows:
        empty = width - len(row.prompt) - len(row.answer)
        ids.append([0] * empty + row.prompt + row.answer)
        seen.append([0] * empty + [1] * (width - empty))
        wanted.append([-100] * (keep - len(row.answer)) + row.answer)
    mask = torch.tensor(seen, device=device)
    out = model(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        logits_to_keep=keep + 1,
        use_cache=False,
    )
    targets = torch.tensor(wanted, device=device)
    losses = cross_entropy(out.logits[:, :-1].float().transpose(1, 2), targets, ignore_index=-100, reduction="none")
    counted = targets != -100
    return ((losses * counted).sum(1) / counted.sum(1)).mean()


def _tensors(own: dict[str, Any], optimizer: Any, best: dict[str, Any]) -> dict[str, Any]:
    found = {f"b:{name}": tensor for name, tensor in best.items()}
    for name, parameter in own.items():
        moments = optimizer.state[parameter]
        found[f"p:{name}"] = parameter.detach().cpu()
        found[f"m:{name}"] = moments["exp_avg"].cpu()
        found[f"v:{name}"] = moments["exp_avg_sq"].cpu()
    return found


def _part(tensors: dict[str, Any], sign: str) -> dict[str, Any]:
    return {name.removeprefix(sign): tensor for name, tensor in tensors.items() if name.startswith(sign)}
