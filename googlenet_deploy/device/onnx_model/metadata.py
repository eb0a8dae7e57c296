"""A model's metadata: the entries of ONNX ``metadata_props`` that the toolkit writes and reads.

They are plain strings with the prefix ``googlenet_deploy.``, so any ONNX tool keeps them, and ONNX Runtime
returns them without the onnx package.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Dict, Mapping, Optional, Tuple

from googlenet_deploy.device.specification import Preprocessing
from googlenet_deploy.errors import BadModelError, UsageError

PREFIX = "googlenet_deploy."
# The records that `train` stores in a model: on the FP32 weights, and on quantisation-aware training.
TRAINING_RECORDS = ("training_record", "quantization_training")

# The remedy if a model that takes frames is not supported: the resize is added to a finished model.
FRAMES_LAST = "use the model that it was made from; its INT8 form gets frames by export --onnx FILE --frame-input HxW"


@dataclass(frozen=True)
class ModelMetadata:
    """The toolkit's metadata in a model.

    Attributes:
        architecture: Name of the network, such as "bvlc"; empty if unknown.
        preprocessing: How images are preprocessed; None for models from other tools.
        class_names: One per logit; empty if unknown.
        class_ids: WordNet ids, one per logit; empty if the classes have none.
        source_sha256: Hash of the weights that the model was made from.
        extra: Further entries with the prefix (tool versions, verification, ...); keys without the prefix.
    """

    architecture: str = ""
    preprocessing: Optional[Preprocessing] = None
    class_names: Tuple[str, ...] = ()
    class_ids: Tuple[str, ...] = ()
    source_sha256: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_properties(self) -> Dict[str, str]:
        """The entries for ``metadata_props``, prefixed and sorted by key; empty entries are left out."""
        values = dict(self.extra)
        values["architecture"] = self.architecture
        values["source_sha256"] = self.source_sha256
        if self.preprocessing is not None:
            values["preprocessing"] = self.preprocessing.to_json()
        for key, names in (("class_names", self.class_names), ("class_ids", self.class_ids)):
            if names:
                values[key] = json.dumps(list(names), ensure_ascii=False, separators=(",", ":"))
        return {PREFIX + key: values[key] for key in sorted(values) if values[key]}

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], path: str) -> ModelMetadata:
        """Reads what `to_properties` wrote; entries without the prefix are ignored.

        Args:
            properties: All of a model's metadata.
            path: The model's file, for the error message.

        Raises:
            BadModelError: An entry does not have the toolkit's format.
        """
        values = {key[len(PREFIX) :]: text for key, text in properties.items() if key.startswith(PREFIX)}
        preprocessing = values.pop("preprocessing", None)
        try:
            return cls(
                architecture=values.pop("architecture", ""),
                preprocessing=Preprocessing.from_json(preprocessing) if preprocessing else None,
                class_names=parse_names(values.pop("class_names", "[]")),
                class_ids=parse_names(values.pop("class_ids", "[]")),
                source_sha256=values.pop("source_sha256", ""),
                extra=values,
            )
        except (ValueError, UsageError) as error:
            raise BadModelError(path, f"its metadata is damaged: {error}") from error


def trained_sparsity(entries: Mapping[str, str]) -> str:
    """The sparsity pattern, such as "2:4", that the weights were trained with; empty if there is none.

    Args:
        entries: `ModelMetadata.extra`.
    """
    for key in TRAINING_RECORDS:
        try:
            options = json.loads(entries.get(key, "{}"))["options"]
            pattern = options.get("sparsity") or "none"
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
        if isinstance(pattern, str) and pattern != "none":
            return pattern
    return ""


def parse_names(text: str) -> Tuple[str, ...]:
    """Class names or ids from a JSON list of strings.

    Raises:
        ValueError: It is not such a list.
    """
    try:
        names = json.loads(text)
    except RecursionError:
        raise ValueError("class names are nested too deeply") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("class names are not a list of strings")
    return tuple(names)
