"""Checkpoints of everything: the state and how many batches it has consumed.

Saving is asynchronous; a checkpoint appears under its step only when it is whole, so a
run killed while saving goes on from the one before.
"""

from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from amlr_jax.errors import InputError
from amlr_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run, in a folder."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policies.preservation_policy.LatestN(keep),
            step_format_fixed_length=8,
            enable_async_checkpointing=True,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def latest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, *, step: int) -> None:
        """Starts saving; does nothing if this step is there already."""
        if step == self._manager.latest_step():
            return
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state),
            data=ocp.args.JsonSave({"batches": step}),
        )
        self._manager.save(step, args=arguments, force=True)

    def restore(
        self, like: TrainState, sharding, *, step: int
    ) -> tuple[TrainState, int]:
        """The state of `step`, shaped like `like` on `sharding`, and its batches."""
        shapes = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), like
        )
        arguments = ocp.args.Composite(
            state=ocp.args.StandardRestore(shapes), data=ocp.args.JsonRestore()
        )
        try:
            found = self._manager.restore(step, args=arguments)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"checkpoint {step} in '{self._manager.directory}' does not fit this "
                f"config: {str(error).splitlines()[0]}"
            ) from error
        return found["state"], found["data"]["batches"]

    def wait(self) -> None:
        """Blocks until what was started is saved."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and lets go of the folder."""
        self._manager.close()
