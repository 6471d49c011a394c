"""The bit-sliced forest on a CUDA device: a word holds one bit of each of 64 users, a thread scores words of one slot.

    for each batch of W words of 64 users                       (user u is bit u // W of word u % W)
      1 masks     for each test of a user feature and word, of a cross feature, word and slot:
                      table[test, word, slot] = 64 bits: does the test hold, "go right", for the user?
      2 forest    a lane is one (word, slot) pair; a program is 128 lanes x one chunk of trees
                      for each tree of the chunk:
                          planes(node) = [m, *(m ? planes(right) : planes(left))]     m = table[node's test, word, slot]
                          codes of the 64 users = the D planes, transposed            8 x 8 bits at a time
                          for each user: sum[user] += leaf[tree, code[user]]          int32, exact
                      sums[user, slot] += sum[user]                                   int64 atomics, exact
      3 finish    margin = float32(sum * scale + bias [+ base]); the first largest allowed slot, and the next

What a lane holds in step 2, in about 130 registers at depth 6 (the tests ask the compiler):

    [ 64 sums, int32 | planes of 64 bits, 17 at most, then 8 words of codes | loads under way | where the lane reads ]

A tree of depth 6 is 63 tests, 57 multiplexers and 64 leaves for the 64 pairs of a lane: 16 instructions a pair, 3 of
them loads. A test is one 8-byte broadcast and one word, found by one masked add without a branch
(bitslice_gpu_layout.py); pairs stand slot by slot, so the lanes of a warp share the words of their users. Steps 2 and 3
stay apart: chunks of trees fill the device where users are few, and a sum is 8 bytes against 16 instructions a tree.

Batches follow each other on the caller's stream and never wait for the host. Inputs in host memory go through pinned
buffers on two streams instead, so that one batch is copied while another is scored.

U users, S slots, F user features, C cross features, T trees, N nodes.
"""

import importlib.util
import os
from functools import cache
from importlib import metadata

import torch
from torch import Tensor

from sto_kernels.bitslice_gpu_batch import Job, launch
from sto_kernels.bitslice_gpu_layout import GpuForest, prepare

__all__ = ["GpuForest", "Job", "best_slots", "prepare", "score", "slot_margins", "slot_sums", "unavailable_reason"]

# Older ones never end on a function that calls itself.
OLDEST_TRITON = [3, 5]


def unavailable_reason() -> str | None:
    """Why this kernel cannot run here, or None; with TRITON_INTERPRET=1 it runs, slowly, on the CPU."""
    if (reason := _triton_obstacle()) is not None:
        return reason
    if os.environ.get("TRITON_INTERPRET") != "1" and not torch.cuda.is_available():
        return "the CUDA kernel needs a CUDA device; torch finds none"
    return None


@cache
def _triton_obstacle() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return 'the CUDA kernel needs triton; install "sto-engine[gpu]"'
    try:
        version = metadata.version("triton")
    except metadata.PackageNotFoundError:  # a build under another name, which came with its torch
        return None
    if [int(part) for part in version.split(".")[:2]] < OLDEST_TRITON:
        return f"the CUDA kernel needs triton {'.'.join(map(str, OLDEST_TRITON))} or later; found {version}"
    return None


def slot_margins(gpu: GpuForest, user_FU: Tensor, cross_CSU: Tensor | None, base_SU: Tensor | None) -> Tensor:
    """Margin of every (user, slot) -> float32 [U, S] on the device of `user_FU`; the facade checks the inputs."""
    margins_US = torch.empty((user_FU.shape[1], gpu.slots), dtype=torch.float32, device=user_FU.device)
    score(gpu, Job(user_FU, cross_CSU, base_SU, margins_US=margins_US))
    return margins_US


def best_slots(
    gpu: GpuForest, user_FU: Tensor, cross_CSU: Tensor | None, base_SU: Tensor | None, allowed_US: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Best slot uint8 [U], its margin float32 [U], runner-up uint8 [U], as `margins.best_slots` defines them."""
    users, device = user_FU.shape[1], user_FU.device
    slot_U, runner_U = (torch.empty(users, dtype=torch.uint8, device=device) for _ in range(2))
    value_U = torch.empty(users, dtype=torch.float32, device=device)
    score(gpu, Job(user_FU, cross_CSU, base_SU, allowed_US, slot_U=slot_U, value_U=value_U, runner_U=runner_U))
    return slot_U, value_U, runner_U


def slot_sums(gpu: GpuForest, user_FU: Tensor, cross_CSU: Tensor | None) -> Tensor:
    """Sum of `leaf_TN` over the trees for every (user, slot), exact -> int64 [U, S]."""
    sums_US = torch.empty((user_FU.shape[1], gpu.slots), dtype=torch.int64, device=user_FU.device)
    score(gpu, Job(user_FU, cross_CSU, sums_US=sums_US))
    return sums_US


def score(gpu: GpuForest, job: Job) -> None:
    """Fill the outputs of a job: any of sums, margins and best slots at once."""
    with gpu.lock:
        if gpu.device.type == "cuda" and job.user_FU.device.type == "cpu":
            _score_from_host(gpu, job)
            return
        job = job.readable()
        for start in range(0, job.users, gpu.batch_users):
            launch(gpu, gpu.workspace(0), job.part(start, min(start + gpu.batch_users, job.users)))


def _score_from_host(gpu: GpuForest, job: Job) -> None:
    size = max(1, min(gpu.batch_users, job.users))
    lines = [_Line(gpu, number, job, size) for number in range(2 if job.users > size else 1)]
    for number, start in enumerate(range(0, job.users, size)):
        line = lines[number % len(lines)]
        line.collect()
        line.submit(job.part(start, min(start + size, job.users)))
    for line in lines:
        line.collect()


class _Line:
    """One of two assembly lines from host to host: pinned buffers, device buffers, a workspace and a stream."""

    def __init__(self, gpu: GpuForest, number: int, job: Job, users: int) -> None:
        self.gpu, self.space = gpu, gpu.workspace(number)
        self.pinned = job.like(users, pin_memory=True)
        self.device = job.like(users, device=gpu.device)
        self.stream = torch.cuda.Stream(gpu.device)  # type: ignore[no-untyped-call]
        self.stream.wait_stream(torch.cuda.current_stream(gpu.device))
        self.pending: Job | None = None

    def submit(self, job: Job) -> None:
        self.pinned.part(0, job.users).copy_inputs(job)
        with torch.cuda.stream(self.stream):
            # Whole buffers, each in one copy; what earlier users left behind the last batch is not read.
            self.device.copy_inputs(self.pinned)
            launch(self.gpu, self.space, self.device.part(0, job.users))
            self.pinned.copy_outputs(self.device)
        self.pending = job

    def collect(self) -> None:
        """Wait for the batch under way and hand its results to the caller's tensors."""
        if self.pending is not None:
            self.stream.synchronize()
            self.pending.copy_outputs(self.pinned.part(0, self.pending.users))
            self.pending = None
