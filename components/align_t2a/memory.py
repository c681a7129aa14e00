"""Memory of an alignment step: how many pairs the device can hold at a time.

A batch is split into micro-batches whose gradients add up (accumulation); if not even one pair fits, activations are
computed again in the backward pass (gradient checkpointing). Neither changes the result beyond rounding: all draws of
a step cover its whole batch (`batch_loss`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from common.config.t2a import AlignT2AConfig
from common.diffusion.backend import T2ABackend, error, saved_bytes
from common.diffusion.text import Condition
from common.log import event, get_logger
from common.runtime.devices import autocast, device
from components.align_t2a.adapter import Policy
from components.align_t2a.encoding import Bucket, EncodedPairs

RESERVE = 0.1
"""Share of the card's memory left for work buffers of single operations and for gaps between blocks."""

TRAINING_COPIES = 5
"""Of a trained weight, in fp32, beside itself: gradient, AdamW's two moments, average, best state."""

log = get_logger("align_t2a")


@dataclass(frozen=True)
class Need:
    """Bytes that a forward pass keeps for the backward pass; `fixed` ones for any batch: bf16 copies of the weights."""

    fixed: float
    pair: float


def split(need: Need, available: float, batch_size: int, accumulation: int, checkpointing: bool) -> tuple[int, bool]:
    """Smallest number of micro-batches that fit, and whether activations must be computed again.

    They fit into `available` bytes, and are at least `accumulation`.
    """
    fitting = (available - need.fixed) // max(need.pair, 1.0)
    for count in range(accumulation, batch_size + 1):
        if batch_size % count == 0 and batch_size // count <= fitting:
            return count, checkpointing
    return batch_size, True


def fit_memory(policy: Policy, pairs: EncodedPairs, settings: AlignT2AConfig) -> AlignT2AConfig:
    """Settings whose steps fit the GPU, on which policy and reference already are; unchanged on a CPU.

    `accumulation` and `gradient_checkpointing` are raised, never lowered; the policy then computes activations again.
    """
    if device() != "cuda":
        return settings
    optim = settings.optim
    longest = max(pairs.buckets, key=lambda bucket: bucket.losers.shape[-1])
    available = available_bytes(policy)
    need = measure(policy, longest, optim.precision)
    asked = optim.accumulation, settings.gradient_checkpointing
    count, checkpointing = split(need, available, optim.batch_size, *asked)
    if checkpointing and not settings.gradient_checkpointing:
        policy.backend.transformer.enable_gradient_checkpointing()
    event(
        log,
        "memory",
        longest_s=longest.losers.shape[-1] * policy.backend.window_s / policy.backend.max_frames,
        pairs_per_step=optim.batch_size,
        gib_per_pair=need.pair / 2**30,
        available_gib=available / 2**30,
        micro_batches=count,
        gradient_checkpointing=checkpointing,
    )
    changed = {"optim": optim.model_copy(update={"accumulation": count}), "gradient_checkpointing": checkpointing}
    return settings.model_copy(update=changed)


def available_bytes(policy: Policy) -> float:
    """Bytes for activations: what nobody holds on the card, less training state and reserve."""
    free, total = torch.cuda.mem_get_info()
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    trained = sum(p.numel() * 4 for p in policy.trained.parameters() if p.requires_grad)
    return float(free + cached - TRAINING_COPIES * trained - RESERVE * total)


def measure(policy: Policy, bucket: Bucket, precision: str) -> Need:
    """Measure two forward passes, of one clip and of two; a pair is two clips.

    Where the card is too small for them, the need is infinite.
    """
    try:
        one, two = (kept_bytes(policy, bucket, clips, precision) for clips in (1, 2))
    except torch.OutOfMemoryError:
        return Need(0.0, float("inf"))
    return Need(2 * one - two, 2 * (two - one))


def kept_bytes(policy: Policy, bucket: Bucket, clips: int, precision: str) -> float:
    """Bytes that the policy's forward pass of `clips` clips of a bucket's length keeps for the backward pass."""
    backend, where = policy.backend, policy.backend.device
    z = bucket.losers[:1].expand(clips, -1, -1).to(where)
    condition = bucket.condition[torch.zeros(clips, dtype=torch.long, device=bucket.condition.cross.device)]
    with autocast(where, precision):
        return saved_bytes(policy.trained, lambda: predict_error(backend, z, condition))


def predict_error(backend: T2ABackend, z: Tensor, condition: Condition) -> Tensor:
    """Error of the prediction at half the noise, of clips `z` `(B, D, L)`: scalar."""
    return error(backend, z, torch.zeros_like(z), torch.full((len(z),), 0.5, device=z.device), condition).sum()
