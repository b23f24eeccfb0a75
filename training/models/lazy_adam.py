"""Adam that touches only the embedding rows of a batch, in few passes over them."""

from __future__ import annotations

from functools import cache
from typing import Any

from training.models.tables import in_large_pages
from training.tensorflow import merlin_models, tensorflow


@cache
def lazy_adam() -> Any:
    """Return the class LazyAdam."""
    tf, merlin = tensorflow(), merlin_models().LazyAdam
    raw = tf.raw_ops

    @tf.keras.utils.register_keras_serializable(package="mews")
    class LazyAdam(merlin):  # type: ignore[misc, valid-type]
        """Merlin's LazyAdam, the same numbers: rows that a batch does not read keep their values and moments.

        The batch's rows are copied together, one kernel updates them as if they were a whole table, and they are put
        back. Merlin's own takes eleven passes for that, and sums the gradients of equal rows three times as slowly.
        """

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._copies: dict[int, list[Any]] = {}  # by variable; no state, so no part of a checkpoint

        def prepare(self, variables: Any) -> None:
            """Make all state of these variables now, and hold the large ones in large pages.

            What a step makes when it is traced for the first time has it traced twice.
            """
            self._create_all_weights(variables)
            for variable in variables:
                for one in (variable, *(self.get_slot(variable, name) for name in ("m", "v"))):
                    in_large_pages(one)
                if self._takes_rows(variable):
                    self._copies_of(variable)

        def _resource_apply_sparse_duplicate_indices(
            self, grad: Any, handle: Any, indices: Any, apply_state: Any = None
        ) -> Any:
            if not self._takes_rows(handle):
                return super()._resource_apply_sparse_duplicate_indices(grad, handle, indices)
            where = handle.device, handle.dtype.base_dtype
            known = (apply_state or {}).get(where) or self._fallback_apply_state(*where)
            rows, places = tf.unique(indices)
            summed, *copies = self._copies_of(handle)
            var, m, v = copies
            summed.assign(tf.zeros((tf.size(rows), handle.shape[1])))
            raw.ResourceScatterAdd(resource=summed.handle, indices=places, updates=grad)
            tables = [handle, *(self.get_slot(handle, name) for name in ("m", "v"))]
            for table, copy in zip(tables, copies, strict=True):
                copy.assign(tf.gather(table, rows))
            self._update(var, m, v, summed.read_value(), known)
            return tf.group(
                *(
                    raw.ResourceScatterUpdate(resource=table.handle, indices=rows, updates=copy.read_value())
                    for table, copy in zip(tables, copies, strict=True)
                )
            )

        def _takes_rows(self, table: Any) -> bool:
            return not tf.distribute.has_strategy() and table.shape.rank == 2 and table.dtype == tf.float32

        def _update(self, var: Any, m: Any, v: Any, grad: Any, known: Any) -> None:
            raw.ResourceApplyAdam(
                var=var.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=known["beta_1_power"],
                beta2_power=known["beta_2_power"],
                lr=known["lr_t"],
                beta1=known["beta_1_t"],
                beta2=known["beta_2_t"],
                epsilon=known["epsilon"],
                grad=grad,
            )

        def _copies_of(self, table: Any) -> list[Any]:
            """Four variables [rows of a batch, dim]: summed gradients, vectors, first and second moments."""
            key = id(table)
            if key not in self._copies:
                width = table.shape[1]
                with tf.init_scope(), tf.device(table.device):
                    self._copies[key] = [
                        tf.Variable(tf.zeros((1, width)), shape=[None, width], trainable=False) for _ in range(4)
                    ]
            return self._copies[key]

    return LazyAdam
