"""Where Mews differs from NVTabular 23.08 on purpose, as data; docs/operators.md shows it, tests prove each row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One decision: what NVTabular does on the CPU, what Mews does in every target, and why."""

    id: str
    operator: str
    nvtabular: str
    mews: str
    why: str


DIFFERENCES = (
    Difference(
        "ties",
        "Categorify",
        "Values seen equally often get codes in no defined order.",
        "The smaller value gets the smaller code.",
        "Two fits of the same data must agree.",
    ),
    Difference(
        "null-in-list",
        "Categorify",
        "A null inside a list gets code 2, as if unknown.",
        "It gets code 1, as every null does.",
        "A null must mean the same in a list and outside.",
    ),
    Difference(
        "null-list",
        "every operator on lists",
        "A null list is an error.",
        "A null list is an empty list.",
        "A request cannot tell them apart.",
    ),
    Difference(
        "sentinels",
        "every operator",
        "The empty string and the smallest integer of a type are values like others.",
        "They are null: in fit, in batch and in requests.",
        "Triton has no nulls; a request has to say null with a value, and training must read it the same way.",
    ),
    Difference(
        "nullable-integers",
        "every operator",
        "An integer column with nulls becomes float64: keys beyond 2**53 collide, FillMissing gives floats.",
        "It stays an integer column.",
        "Whether a batch holds a null must not change the type, or the codes.",
    ),
    Difference(
        "hash",
        "Categorify(num_buckets)",
        "pandas' hash on the CPU, cuDF's on the GPU.",
        "MurmurHash3_x86_32 with seed 0 in every target; hydrating an NVTabular workflow from it is refused.",
        "A value must fall into the same bucket in training and serving.",
    ),
    Difference(
        "single-table",
        "Categorify(single_table=True)",
        "Null and unknown values get the codes of real categories.",
        "Refused.",
        "The codes would be wrong.",
    ),
    Difference(
        "no-rows",
        "Categorify, Normalize",
        "Fitting on no rows fails, or fails later.",
        "Every value is unknown; Normalize and NormalizeMinMax give NaN.",
        "An empty partition is not an error.",
    ),
    Difference(
        "moments-in-float64",
        "Normalize",
        "float32 columns are summed in float32, and the variance is sum(x**2) - n * mean**2, which cancels.",
        "float64 throughout, merged by Chan's update.",
        "Statistics must not depend on the type or on the number of partitions.",
    ),
    Difference(
        "integer-overflow",
        "Normalize, NormalizeMinMax",
        "Sums and differences of int64 wrap around.",
        "They are computed in float64.",
        "A wrapped statistic is wrong without a sign of it.",
    ),
    Difference(
        "constant-zero",
        "NormalizeMinMax",
        "A column with min = max gives 0.5, but NaN for the value 0.",
        "0.5 for every finite value.",
        "0 is not special.",
    ),
    Difference(
        "slice-padding",
        "ListSlice(pad=True)",
        "Pads on the GPU, does nothing on the CPU.",
        "Pads in every target.",
        "The schema says that the list has a fixed length.",
    ),
    Difference(
        "clip-fraction",
        "Clip",
        "A fractional bound on an integer column makes it float64 if a value is cut, else it stays an integer.",
        "Refused.",
        "The type of a column must not depend on the data.",
    ),
)
