"""Where Mews differs from NVTabular 23.08 on purpose, as data; docs/operators.md shows it, tests prove each row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One decision: what NVTabular does on the CPU, what Mews does in every target, and why.

    `strict` says what reading with strict_nvtabular does: "repeated", "refused", or "not repeated" and why.
    """

    id: str
    operator: str
    nvtabular: str
    mews: str
    why: str
    strict: str = "not repeated"


DIFFERENCES = (
    Difference(
        "ties",
        "Categorify",
        "Values seen equally often get codes in no defined order.",
        "The smaller value gets the smaller code.",
        "Two fits of the same data must agree.",
        "not repeated: there is no order to repeat",
    ),
    Difference(
        "null-in-list",
        "Categorify",
        "A null inside a list gets code 2, as if unknown.",
        "It gets code 1, as every null does.",
        "A null must mean the same in a list and outside.",
        "repeated",
    ),
    Difference(
        "null-list",
        "every operator on lists",
        "A null list is an error.",
        "A null list is an empty list.",
        "A request cannot tell them apart.",
        "not repeated: it is an error",
    ),
    Difference(
        "sentinels",
        "every operator",
        "The empty string and the smallest integer of a type are values like others.",
        "They are null: in fit, in batch and in requests.",
        "Triton has no nulls; a request has to say null with a value, and training must read it the same way.",
        "not repeated: a request could not say null",
    ),
    Difference(
        "nullable-integers",
        "every operator",
        "An integer column with nulls becomes float64: keys beyond 2**53 collide, FillMissing gives floats.",
        "It stays an integer column.",
        "Whether a batch holds a null must not change the type, or the codes.",
        "not repeated: it depends on which partitions hold nulls",
    ),
    Difference(
        "hash",
        "Categorify(num_buckets), HashBucket, HashedCross",
        "pandas' hash on the CPU, cuDF's on the GPU; a null is hashed as pandas happens to hold it.",
        "MurmurHash3_x86_32 with seed 0 in every target and in hydrated workflows; a null is hashed as the value that "
        "means null in a request; the hashes of a cross are joined by h = (h * 1000003 + hash) mod 2**32.",
        "A value must fall into the same bucket in training and serving.",
        "not repeated: training and serving would differ",
    ),
    Difference(
        "single-table",
        "Categorify(single_table=True)",
        "Null and unknown values get the codes of real categories.",
        "Refused.",
        "The codes would be wrong.",
        "repeated",
    ),
    Difference(
        "no-rows",
        "Categorify, Normalize",
        "Fitting on no rows fails, or fails later.",
        "Every value is unknown; Normalize and NormalizeMinMax give NaN.",
        "An empty partition is not an error.",
        "not repeated: it is an error",
    ),
    Difference(
        "moments-in-float64",
        "Normalize",
        "float32 columns are summed in float32, and the variance is sum(x**2) - n * mean**2, which cancels.",
        "Exact sums, rounded once.",
        "Statistics must not depend on the type or on the number of partitions.",
        "not repeated: it depends on the partitions",
    ),
    Difference(
        "integer-overflow",
        "Normalize, NormalizeMinMax",
        "Sums and differences of int64 wrap around.",
        "They are computed in float64.",
        "A wrapped statistic is wrong without a sign of it.",
        "not repeated: it depends on the partitions",
    ),
    Difference(
        "constant-zero",
        "NormalizeMinMax",
        "A column with min = max gives 0.5, but NaN for the value 0.",
        "0.5 for every finite value.",
        "0 is not special.",
        "repeated",
    ),
    Difference(
        "slice-padding",
        "ListSlice(pad=True)",
        "Pads on the GPU, does nothing on the CPU.",
        "Pads in every target.",
        "The schema says that the list has a fixed length.",
        "repeated; the list has no fixed length then",
    ),
    Difference(
        "clip-fraction",
        "Clip",
        "A fractional bound on an integer column makes it float64 if a value is cut, else it stays an integer.",
        "Refused.",
        "The type of a column must not depend on the data.",
        "refused",
    ),
    Difference(
        "name-separator",
        "Categorify(name_sep)",
        "With another separator than '_' the vocabulary is not ordered by count, and max_size and freq_threshold do "
        "nothing.",
        "The separator only makes names.",
        "A name must not change codes.",
        "not repeated: the order among equal values would be left open",
    ),
    Difference(
        "combined-limits",
        "Categorify(encode_type='combo')",
        "max_size and freq_threshold given by name are looked up under the first part's name.",
        "Under the combined column's name, then the part's.",
        "A limit is meant for the column it names.",
        "repeated",
    ),
    Difference(
        "given-vocabularies",
        "Categorify(vocabs, num_buckets)",
        "With buckets the codes of given vocabularies are 3 too large, beyond the embedding table.",
        "They begin at 2 + num_buckets.",
        "Codes must lie in the table.",
        "repeated",
    ),
    Difference(
        "hashed-lists",
        "Categorify(num_buckets), HashBucket",
        "Fails on lists on the CPU.",
        "The elements are hashed.",
        "A list is many values of one kind.",
        "not repeated: it is an error",
    ),
    Difference(
        "null-key",
        "JoinGroupby, TargetEncoding",
        "Rows whose (first) key is null count as none: a mean is divided by 0.",
        "They are a group like others.",
        "A statistic must be one.",
        "repeated",
    ),
    Difference(
        "null-values",
        "JoinGroupby, TargetEncoding",
        "A mean or variance is divided by all rows of the group, those without a value among them.",
        "By the rows with a value.",
        "An unknown value is not 0.",
        "repeated",
    ),
    Difference(
        "unknown-group",
        "JoinGroupby(stats=['count'])",
        "Fails on a group that fit did not see.",
        "Its count is 0.",
        "A request may bring a new value.",
        "not repeated: it is an error",
    ),
    Difference(
        "group-types",
        "JoinGroupby(stats=['sum', 'min', 'max'])",
        "Those of integers are integers, or floats if the rows hold an unknown group.",
        "Floats.",
        "The type of a column must not depend on the data.",
        "not repeated: it depends on the data",
    ),
    Difference(
        "key-alone",
        "JoinGroupby",
        "Fails where a key stands alone and in a tuple; so does every name_sep other than '_'.",
        "Both are computed.",
        "Nothing is wrong with the question.",
        "not repeated: it is an error",
    ),
    Difference(
        "folds",
        "TargetEncoding(kfold > 1)",
        "Folds are drawn anew for every partition, in serving too, so the same row gets several values.",
        "The fold of a row comes from its number in the data set, for the rows a model is trained on; all others are "
        "encoded with the statistics of all rows.",
        "Partitions must not matter, and a request has no label to hide.",
        "repeated, for one partition; serving is then refused",
    ),
    Difference(
        "target-mean",
        "TargetEncoding(target_mean)",
        "Fails in fit.",
        "A number for all targets, or one by name.",
        "It is documented.",
        "not repeated: it is an error",
    ),
    Difference(
        "out-column",
        "TargetEncoding(out_col)",
        "Fails: the schema keeps the other names.",
        "The columns have the given names.",
        "It is documented.",
        "not repeated: it is an error",
    ),
    Difference(
        "external-rows",
        "JoinExternal",
        "A key that occurs twice in the external table makes two rows of one; an inner join drops rows.",
        "Both are refused.",
        "A request's rows must all be answered, once.",
        "refused",
    ),
    Difference(
        "external-types",
        "JoinExternal",
        "An integer of the external table is a float if a row has no match, and an integer else.",
        "An integer, null without a match.",
        "The type of a column must not depend on the data.",
        "not repeated: it depends on the data",
    ),
    Difference(
        "no-such-row",
        "ColumnSimilarity",
        "A number that is no row of a matrix reads memory beyond it.",
        "NaN.",
        "Nothing is known of it.",
        "not repeated: what it gives is not defined",
    ),
    Difference(
        "text-of-null",
        "LambdaOp (.str.startswith, .endswith, .contains)",
        "Of a null they give null, in a column of objects.",
        "False.",
        "A condition is true or false; with na=False NVTabular agrees.",
    ),
    Difference(
        "conversion-of-missing",
        "LambdaOp (.astype of an integer type)",
        "A null, NaN, an infinity or a number beyond the type is an error, or any number.",
        "Null.",
        "One row must not end a batch or a request.",
    ),
    Difference(
        "median",
        "FillMedian",
        "The median is that of a sample of each partition, so it depends on how the data is partitioned.",
        "Exact for up to 200,000 different values, else within 0.01 percent; the same for every partition.",
        "Statistics must not depend on the number of partitions.",
    ),
    Difference(
        "median-of-integers",
        "FillMedian",
        "An integer column is float64 in a batch with nulls, else an integer.",
        "float64 always.",
        "The median need not be an integer, and the type must not depend on the batch.",
    ),
    Difference(
        "reduced-null",
        "ReduceDtypeSize",
        "A type may be filled to its smallest value; an integer column with nulls becomes float32.",
        "The smallest value is left free, for it means null; integers with nulls stay integers.",
        "A request says null with that value.",
    ),
    Difference(
        "lengths-are-no-limit",
        "ValueCount",
        "The schema takes the lengths seen in fit for limits, and calls a scalar column a list.",
        "The lengths are properties in the schema; the column's own shape stays.",
        "Other rows may be longer.",
    ),
    Difference(
        "statistics-in-the-schema",
        "DataStats",
        "Statistics are kept in the operator only.",
        "They are also the property `stats` of the column in the schema.",
        "What reads the features can see them.",
    ),
    Difference(
        "drop-low-others",
        "DropLowCardinality",
        "Any column beside categorical ones is an error.",
        "It is kept.",
        "That is what its documentation says.",
    ),
    Difference(
        "groups-of-all-rows",
        "Groupby",
        "Groups are made in each partition by itself.",
        "Groups are made of all rows, and the result is sorted by the keys.",
        "A group must not depend on where a file ends.",
    ),
    Difference(
        "order-of-aggregates",
        "Groupby",
        "Aggregates of a column come in the order of a Python set, which differs between processes.",
        "list, first, last, count, nunique, sum, mean, std, var, min, max, median.",
        "The same workflow must give the same graph.",
    ),
    Difference(
        "types-of-aggregates",
        "Groupby",
        "The schema finds an aggregate by taking the column's name out of the output's, wrongly for short names.",
        "The schema has the types that the data has.",
        "A schema that is wrong breaks training.",
    ),
    Difference(
        "keys-after-filter",
        "Filter or Dropna, then Groupby or DifferenceLag",
        "Keys are read again from the rows before the filter, so they stand beside other rows.",
        "Keys are those of the rows that are left.",
        "The groups would be wrong.",
    ),
    Difference(
        "lag-over-all-rows",
        "DifferenceLag",
        "The first rows of every partition have no difference.",
        "Rows are compared over all of the data, in its order.",
        "A difference must not depend on where a file ends.",
    ),
)
