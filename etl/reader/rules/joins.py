"""JoinGroupby and TargetEncoding, with the tables of statistics that NVTabular writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl.dtypes import dtype, is_float
from etl.errors import ConfigError
from etl.graph import INPUT, Column, OpNode, Ref
from etl.operators.categorical import is_strict, key_columns, name_of
from etl.operators.joins import FOLD, GROUP_DTYPES, encoded_outputs, group_outputs, has_folds, keys_of
from etl.reader.rules import Rule, State, add, plain
from etl.reader.rules.categorical import series_of

Dtypes = Mapping[str, str]


def groups_in(selector: Any) -> list[list[str]]:
    """Return the groups of a selector, a column alone as one too."""
    return [[group] if isinstance(group, str) else list(group) for group in selector.grouped_names]


def _separator(op: Any) -> dict[str, str]:
    return {} if op.name_sep == "_" else {"name_sep": op.name_sep}


def _group_params(op: Any, selector: Any) -> dict[str, Any]:
    params = {"groups": groups_in(selector), "cont_cols": list(op.cont_names.names), "stats": list(op.stats)}
    return {**params, **_separator(op)}


def _group_columns(op: Any, node: OpNode, dtypes: Dtypes) -> tuple[Column, ...]:
    """Return floats where a group may be unknown: NVTabular declares integers, and gives floats then."""
    made = {column.name: column for column in node.outputs}
    found = []
    for name, (_, column, stat) in group_outputs(node).items():
        kind = GROUP_DTYPES.get(stat) or (dtypes[column] if is_float(dtypes[column]) else "float64")
        found.append(replace(made[name], dtype=kind, is_list=False, length=None))
    return tuple(found)


def _table(path: str, group: Sequence[str], extra: Sequence[str] = ()) -> pl.DataFrame:
    """Read a `cat_stats.<group>.parquet`: a file, or a folder of parts."""
    found = Path(path)
    files = sorted(found.glob("*.parquet")) if found.is_dir() else [found]
    try:
        table = pl.concat([pl.read_parquet(file) for file in files], how="vertical_relaxed")
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise ConfigError(f"statistics in {path}", expected="Parquet files", received=str(error)) from error
    if missing := [name for name in (*extra, *group) if name not in table.columns]:
        raise ConfigError(f"statistics in {path}", expected=f"columns {', '.join(missing)}", received="none of them")
    return table


def _typed_keys(table: pl.DataFrame, group: Sequence[str], dtypes: Dtypes) -> dict[str, pl.Series]:
    found = {}
    for name, column in zip(key_columns(group), group, strict=True):
        values = table[column]
        values = values.fill_nan(None) if values.dtype.is_float() else values
        found[name] = values.cast(dtype(dtypes[column]).polars)
    return found


def _group_state(op: Any, node: OpNode, dtypes: Dtypes) -> State:
    state = {}
    for group in keys_of(node):
        name = name_of(node, group)
        table = _table(op.categories[name], group)
        found = _typed_keys(table, group, dtypes)
        prefix = op.name_sep.join(group)
        counted = f"{prefix}{op.name_sep}count"
        known = table[counted] if counted in table.columns else pl.zeros(table.height, eager=True)
        found["count"] = known.cast(pl.Int64)
        for place, column in enumerate(node.params["cont_cols"]):
            for stat in node.params["stats"]:
                if stat != "count":
                    values = table[op.name_sep.join([prefix, column, stat])].cast(pl.Float64)
                    found[f"{stat}_{place}"] = values.fill_null(float("nan"))
        state[f"groups.{name}"] = pl.DataFrame(found).sort(key_columns(group))
    return state


def _make_groups(ops: Any, node: OpNode) -> Any:
    params = node.params
    return ops.JoinGroupby(
        cont_cols=list(params["cont_cols"]), stats=list(params["stats"]), name_sep=params.get("name_sep", "_")
    )


def _restore_groups(op: Any, node: OpNode, folder: Path) -> None:
    for group in keys_of(node):
        name = name_of(node, group)
        table = (node.state or {})[f"groups.{name}"]
        columns: dict[str, Any] = {}
        prefix = op.name_sep.join(group)
        for stat in dict.fromkeys(node.params["stats"]):
            if stat == "count":
                columns[f"{prefix}{op.name_sep}count"] = table["count"].to_numpy()
                continue
            for place, column in enumerate(node.params["cont_cols"]):
                kind = next(c.dtype for c in node.outputs if c.name == f"{name}_{column}_{stat}")
                columns[op.name_sep.join([prefix, column, stat])] = table[f"{stat}_{place}"].to_numpy().astype(kind)
        op.categories[name] = _write(folder / f"{node.id}.{len(op.categories)}.parquet", table, group, columns)


def _write(path: Path, table: pl.DataFrame, group: Sequence[str], columns: Mapping[str, Any]) -> str:
    import pandas

    path.parent.mkdir(parents=True, exist_ok=True)
    keys = {column: series_of(table[name]) for name, column in zip(key_columns(group), group, strict=True)}
    pandas.DataFrame({**keys, **columns}).to_parquet(path, compression=None)
    return str(path)


def _selected(node: OpNode) -> list[Ref]:
    """Return the key columns: the columns that statistics are of are arguments, not inputs, in NVTabular."""
    names = {name for group in keys_of(node) for name in group}
    return [ref for ref in node.inputs if ref.column in names]


def _unmakeable(node: OpNode) -> tuple[str, str] | None:
    if any(len(group) > 1 for group in keys_of(node)) and any(ref.node != INPUT for ref in _selected(node)):
        return "NVTabular can only group raw columns together.", "Put the operator first."
    if any(ref.node != INPUT for ref in node.inputs if ref not in _selected(node)):
        return "its statistics are of columns that are made, not raw.", "Use the graph's own plans."
    singles = {group[0] for group in keys_of(node) if len(group) == 1}
    together = {name for group in keys_of(node) if len(group) > 1 for name in group}
    if node.op == "JoinGroupby" and singles & together:
        return "NVTabular fails where a key stands alone and in a tuple.", "Use two JoinGroupby."
    if node.params.get("name_sep", "_") != "_" and node.op == "JoinGroupby":
        return "NVTabular fails with a name_sep other than '_'.", "Leave out name_sep."
    if node.params.get("out_col"):
        return "NVTabular fails with out_col.", "Leave out out_col, and rename the columns after."
    if _shows_folds(node):
        return "NVTabular's folds are others.", "Leave out drop_folds=False."
    return None


def _shows_folds(node: OpNode) -> bool:
    """Return True for a TargetEncoding that gives the folds."""
    return any(column.name == FOLD for column in node.outputs)


add(
    "JoinGroupby",
    Rule(
        _group_params,
        _make_groups,
        state=_group_state,
        unmakeable=_unmakeable,
        restore=_restore_groups,
        outputs=_group_columns,
        parents=_selected,
    ),
)


def _target_params(op: Any, selector: Any) -> dict[str, Any]:
    params = {
        "groups": groups_in(selector),
        "target": list(op.target_columns),
        "target_mean": plain(op.target_mean),
        "kfold": int(op.kfold),
        "fold_seed": None if op.fold_seed is None else int(op.fold_seed),
        "p_smooth": plain(op.p_smooth),
        "out_dtype": None if op.out_dtype is None else np.dtype(op.out_dtype).name,
    }
    return {**params, **({"out_col": plain(op.out_col)} if op.out_col else {}), **_separator(op)}


def _target_columns(op: Any, node: OpNode, dtypes: Dtypes) -> tuple[Column, ...]:
    """Return the columns under the names of out_col, which NVTabular's schema leaves out."""
    given = node.params.get("out_col")
    groups, targets = keys_of(node), node.params["target"]
    if given and (len(given) != len(groups) or any(len(listed(names)) != len(targets) for names in given)):
        expected = f"{len(targets)} name(s) for each of {len(groups)} group(s)"
        raise ConfigError("TargetEncoding out_col", expected=expected, received=str(given))
    names = [*encoded_outputs(node), FOLD]
    return tuple(
        replace(column, name=name, is_list=False, length=None)
        for column, name in zip(node.outputs, names, strict=False)
    )


def listed(names: Any) -> list[str]:
    """Return one name or several as a list."""
    return [names] if isinstance(names, str) else list(names)


def _target_state(op: Any, node: OpNode, dtypes: Dtypes) -> State:
    targets = node.params["target"]
    means = pl.Series("mean", [float(op.means[name]) for name in targets], dtype=pl.Float64)
    state = {"means": pl.DataFrame({"column": targets, "mean": means})}
    for group in keys_of(node):
        name = name_of(node, group)
        state[f"groups.{name}"] = _target_table(op.stats[name], group, targets, dtypes, op.name_sep)
        if has_folds(node) and is_strict(node):  # these are the folds of NVTabular's draws
            path = op.stats[op.name_sep.join([FOLD, *group])]
            state[f"folds.{name}"] = _target_table(path, group, targets, dtypes, op.name_sep, FOLD)
    return state


def _target_table(
    path: str, group: Sequence[str], targets: Sequence[str], dtypes: Dtypes, separator: str, fold: str = ""
) -> pl.DataFrame:
    keyed = [fold, *group] if fold else list(group)
    table = _table(path, keyed)
    found = {"fold": table[fold].cast(pl.Int64)} if fold else {}
    found |= _typed_keys(table, group, dtypes)
    prefix = separator.join(keyed)
    for place, target in enumerate(targets):
        found[f"count_{place}"] = table[f"{prefix}{separator}count"].cast(pl.Int64)
        found[f"sum_{place}"] = table[separator.join([prefix, target, "sum"])].cast(pl.Float64)
    return pl.DataFrame(found).sort([*(["fold"] if fold else []), *key_columns(group)])


def _make_target(ops: Any, node: OpNode) -> Any:
    """Return NVTabular's operator without folds: what it gives is then what serving gives."""
    params = node.params
    kfold = params["kfold"] if is_strict(node) else 1
    return ops.TargetEncoding(
        list(params["target"]),
        kfold=kfold,
        fold_seed=params["fold_seed"],
        p_smooth=params["p_smooth"],
        out_dtype=params["out_dtype"],
        name_sep=params.get("name_sep", "_"),
    )


def _restore_target(op: Any, node: OpNode, folder: Path) -> None:
    state = node.state or {}
    given = node.params.get("target_mean")
    for row in state["means"].iter_rows(named=True):
        name = row["column"]
        op.means[name] = row["mean"]
        if given is not None:
            op.means[name] = given.get(name, row["mean"]) if isinstance(given, Mapping) else given
    for group in keys_of(node):
        name = name_of(node, group)
        op.stats[name] = _write_target(op, folder, node, state[f"groups.{name}"], group)
        if is_strict(node) and has_folds(node):
            table = state[f"folds.{name}"].rename({"fold": FOLD})
            keyed = op.name_sep.join([FOLD, *group])
            op.stats[keyed] = _write_target(op, folder, node, table, group)


def _write_target(op: Any, folder: Path, node: OpNode, table: pl.DataFrame, group: Sequence[str]) -> str:
    import pandas

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{node.id}.{len(op.stats)}.parquet"
    columns: dict[str, Any] = {FOLD: table[FOLD].to_numpy()} if FOLD in table.columns else {}
    columns |= {column: series_of(table[name]) for name, column in zip(key_columns(group), group, strict=True)}
    columns["count"] = table["count_0"].to_numpy()
    counts, smooth = columns["count"], float(op.p_smooth)
    for place, target in enumerate(node.params["target"]):
        sums, own = table[f"sum_{place}"].to_numpy(), table[f"count_{place}"].to_numpy()
        with np.errstate(all="ignore"):  # NVTabular has one count for all targets: the sum makes up for it
            moved = (sums + smooth * op.means[target]) / (own + smooth) * (counts + smooth) - smooth * op.means[target]
        columns[f"{target}_sum"] = np.where(own == counts, sums, moved)
    pandas.DataFrame(columns).to_parquet(path, compression=None)
    return str(path)


add(
    "TargetEncoding",
    Rule(
        _target_params,
        _make_target,
        state=_target_state,
        unmakeable=_unmakeable,
        restore=_restore_target,
        outputs=_target_columns,
        parents=_selected,
    ),
)
