"""Sharding of weights over processes (FSDP), and conversion between shards and whole tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def local(tensor: Tensor) -> Tensor:
    """This process's shard of a sharded tensor; other tensors unchanged (both detached)."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def whole(tensor: Tensor) -> Tensor:
    """Gather a sharded tensor, as a collective call of all processes; other tensors unchanged (both detached)."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()


def like(tensor: Tensor, share: Tensor) -> Tensor:
    """Wrap `share` as this process's shard of a tensor sharded like `tensor`; unchanged if `tensor` is not sharded."""
    if not isinstance(tensor, DTensor):
        return share
    return DTensor.from_local(
        share.to(tensor.device),
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )


@torch.no_grad()
def assign(target: Tensor, value: Tensor) -> None:
    """Copy the whole `value`, present in every process, into `target`."""
    value = value.to(target.device)
    if isinstance(target, DTensor):
        value = local(distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None))
    local(target).copy_(value)


def shard(root: nn.Module, processes: int, device: torch.device) -> None:
    """Shard the weights of `root` over the processes, in place, each transformer block separately.

    Weights are gathered in fp32 and cast by autocast, so the result equals that of the whole model. `root` may then be
    called through its forward pass only.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (processes,))
    for block in _blocks(root):
        fully_shard(block, mesh=mesh)
    fully_shard(root, mesh=mesh)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Trainable elements of the outermost module lists: the layers of every transformer here."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (block for block in child if any(p.requires_grad for p in block.parameters()))
        else:
            yield from _blocks(child)


def synchronise(root: nn.Module, wanted: bool) -> None:
    """Switch gradient averaging over the processes on or off for the backward pass of a sharded `root`."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(root, FSDPModule):
        root.set_requires_gradient_sync(wanted)


def _sharded(root: nn.Module) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in root.modules() if isinstance(module, FSDPModule)]


@contextmanager
def gathered(root: nn.Module) -> Iterator[None]:
    """Allow calls to the parts of a sharded `root` inside the block, bypassing its forward pass."""
    sharded = _sharded(root)
    for module in sharded:
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()
    try:
        yield
    finally:
        for module in sharded:
            module.reshard()
            module.set_reshard_after_forward(module is not root, recurse=False)


@torch.no_grad()
def unshard(root: nn.Module) -> None:
    """Undo `shard`: restore whole, ordinary weights in every process."""
    sharded = _sharded(root)
    for module in sharded:
        module.reshard()
    for owner in root.modules():
        for name, parameter in list(owner.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                setattr(owner, name, nn.Parameter(parameter.full_tensor(), requires_grad=parameter.requires_grad))
    for module in sharded:
        # torch has no inverse of fully_shard: remove its hooks and the class that it put in front.
        state = module._get_fsdp_state()
        handles = [state._pre_forward_hook_handle, state._post_forward_hook_handle]
        for group in state._fsdp_param_groups:
            handles += group._module_to_pre_save_state_dict_hook_handle.values()
            handles += group._module_to_pre_load_state_dict_hook_handle.values()
        for handle in handles:
            handle.remove()
        module.__class__ = type(module).__mro__[2]
