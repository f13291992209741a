import pytest

from tests.evaluation.found import contents, full_section, section, table


def test_tables_and_pictures_of_all_sections_are_counted_in(all_strategies):
    made = contents(all_strategies, [full_section("a"), full_section("b")])

    assert [t.name for t in made.all_tables[-4:]] == ["a-table", "a-folded", "b-table", "b-folded"]
    assert [p.name for p in made.all_pictures] == ["drawn-0", "drawn-1", "a-picture", "b-picture"]


def test_two_tables_of_one_name_are_refused(all_strategies):
    with pytest.raises(ValueError, match=r"one table a name, in small letters. Received: summary\."):
        contents(all_strategies, [section("a", folded=(table("summary"),))])


def test_two_sections_or_pictures_of_one_name_are_refused(all_strategies):
    with pytest.raises(ValueError, match="one section a name"):
        contents(all_strategies, [section("a"), section("a")])
    with pytest.raises(ValueError, match="one picture a name"):
        contents(
            all_strategies,
            [section("a", pictures=full_section("x").pictures), section("b", pictures=full_section("x").pictures)],
        )


@pytest.mark.parametrize("name", ["", "../up", "A", "a b"])
def test_a_name_that_is_no_file_name_is_refused(all_strategies, name):
    with pytest.raises(ValueError, match="one table a name"):
        contents(all_strategies, [section("a", tables=(table(name),))])
