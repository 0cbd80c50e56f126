import pytest

from builders import make_catalog, make_model
from gearshift.errors import ModelNotFound, VariantNotFound


def test_lookups_name_what_exists():
    catalog = make_catalog(make_model("fraud"), make_model("tumor"))
    assert catalog.model("fraud").by_version(2).name == "small"
    assert catalog.model("fraud").by_name("large").version == 1
    assert catalog.model("fraud").best_accuracy == 0.95
    with pytest.raises(ModelNotFound, match="'face'.*fraud, tumor"):
        catalog.model("face")
    with pytest.raises(VariantNotFound, match=r"no version 3; it has 1 \(large\), 2 \(small\)"):
        catalog.model("fraud").by_version(3)
    with pytest.raises(VariantNotFound, match="no variant 'int8'"):
        catalog.model("fraud").by_name("int8")
