"""Templates are rendered to texts, and invalid values are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onsembl.protocol.presets import Preset, PresetError, Value, ValuesError, Variable, check, read_value, render
from onsembl.protocol.shipped_presets import SHIPPED


def preset(template: str, *variables: Variable) -> Preset:
    return Preset(name="one", template=template, variables=list(variables))


A = Variable(name="a")
B = Variable(name="b", type="boolean")
N = Variable(name="n", type="integer")


@pytest.mark.parametrize(
    ("template", "values", "text"),
    [
        ("fix {{a}}, then {{ a }}", {"a": "it"}, "fix it, then it"),
        ("fix{{#a}} {{a}}{{/a}}{{^a}} all{{/a}}", {}, "fix all"),
        ("fix{{#a}} {{a}}{{/a}}{{^a}} all{{/a}}", {"a": "x"}, "fix x"),
        ("top\n{{#a}}\nline {{a}}\n{{/a}}\nend", {"a": "1"}, "top\nline 1\nend"),
        ("top\n  {{#a}}  \nline {{a}}\n  {{/a}}\nend\n", {}, "top\nend"),
        ("{{#a}}{{#b}}both{{/b}}{{^b}}one{{/b}}{{/a}}.", {"a": "x", "b": True}, "both."),
        ("{{#a}}{{#b}}both{{/b}}{{^b}}one{{/b}}{{/a}}.", {"a": "x", "b": False}, "one."),
        ("{{b}} {{n}}{{#n}}!{{/n}}", {"b": True, "n": 0}, "yes 0!"),
        ("{{a}}", {"a": "{{b}} {{#n}}"}, "{{b}} {{#n}}"),
        ("${{ github.sha }} {% x %} { {a} }", {}, "${{ github.sha }} {% x %} { {a} }"),
    ],
)
def test_a_template_becomes_a_text(template, values, text):
    """A template has values, sections and inverted sections; unknown marks stay, and a value is never a template."""
    shown = preset(template, A, B, N)
    check(shown)
    assert render(shown, values) == text


@pytest.mark.parametrize(
    ("variable", "value", "wrong"),
    [
        (Variable(name="a", required=True), None, "is required"),
        (Variable(name="a", required=True), "", "is required"),
        (Variable(name="a"), "two\nlines", "has to be one line"),
        (Variable(name="a", type="path"), "two\rlines", "has to be one line"),
        (Variable(name="a"), 5, "has to be a text"),
        (Variable(name="a", type="long_text"), True, "has to be a text"),
        (Variable(name="a", type="integer"), "5", "has to be a whole number"),
        (Variable(name="a", type="integer"), True, "has to be a whole number"),
        (Variable(name="a", type="boolean"), 1, "has to be yes or no"),
        (Variable(name="a", type="choice", choices=["x", "y"]), "z", "has to be one of x, y"),
    ],
)
def test_what_does_not_fit_is_named(variable, value, wrong):
    """An invalid value raises an error that names its variable and the reason."""
    with pytest.raises(ValuesError) as raised:
        render(preset("{{a}}!", variable), {} if value is None else {"a": value})
    assert raised.value.fields == {"a": wrong}


def test_all_that_is_wrong_is_said_at_once():
    """The error names all invalid values at once, including a value without a variable."""
    with pytest.raises(ValuesError) as raised:
        render(preset("{{a}}", Variable(name="a", required=True), N), {"n": "x", "other": 1})
    assert raised.value.fields.keys() == {"a", "n", "other"}
    with pytest.raises(ValuesError):
        render(preset("{{a}}", A), {})
    with pytest.raises(ValuesError):
        render(preset("{{a}}{{a}}", A), {"a": "x" * 60_000})


def test_a_default_stands_in_for_what_is_not_given():
    """A default replaces a missing value and an empty text, but not false."""
    shown = preset(
        "{{a}}{{#b}}!{{/b}}", Variable(name="a", default="d"), Variable(name="b", type="boolean", default=True)
    )
    assert render(shown, {}) == render(shown, {"a": ""}) == "d!"
    assert render(shown, {"b": False}) == "d"


@pytest.mark.parametrize(
    "wrong",
    [
        preset("{{b}}", A),
        preset("{{#a}}", A),
        preset("{{/a}}", A),
        preset("{{#a}}{{#n}}{{/a}}{{/n}}", A, N),
        preset("x", A, A),
        preset("x", Variable(name="a", type="choice")),
        preset("x", Variable(name="a", choices=["x"])),
        preset("x", Variable(name="a", type="choice", choices=["x", "x"])),
        preset("x", Variable(name="a", type="integer", default="many")),
    ],
)
def test_a_preset_that_cannot_be_one_is_refused(wrong):
    """An invalid preset is rejected before it is stored."""
    with pytest.raises(PresetError):
        check(wrong)


@given(st.text(alphabet="{}#^/ab \n", max_size=40), st.dictionaries(st.sampled_from("ab"), st.text("x{}ab#/\n")))
def test_whatever_is_checked_is_rendered_or_refused(template, values):
    """Any template and any values are rendered or raise PresetError or ValuesError."""
    shown = Preset(name="one", template=template, variables=[Variable(name=n, type="long_text") for n in "ab"])
    try:
        check(shown)
        render(shown, values)
    except (PresetError, ValuesError):
        pass


@pytest.mark.parametrize("shipped", SHIPPED.values(), ids=lambda preset: preset.name)
def test_what_ships_needs_only_what_is_required(shipped):
    """A shipped preset with its required values leaves no mark and no double blank line, and each variable changes the
    text."""
    check(shipped)
    least: dict[str, Value] = {v.name: f"the {v.name}" for v in shipped.variables if v.required and v.default is None}
    text = render(shipped, least)
    assert "{{" not in text and "\n\n\n" not in text
    samples: dict[str, Value] = {"integer": 77, "boolean": True, "text": "sample", "path": "src/x", "long_text": "a\nb"}
    samples["reports"] = "0b0e0000-0000-4000-8000-000000000000"
    for variable in shipped.variables:
        other = variable.choices[-1] if variable.choices else samples[variable.type]
        if other == variable.default:
            other = False
        changed = render(shipped, {**least, variable.name: other})
        assert changed != text, variable.name
        assert "\n\n\n" not in changed, variable.name


def test_values_are_read_as_they_are_typed():
    """Values from the command line are converted from text to their variable's type."""
    assert read_value(B, "Yes") is True and read_value(B, "off") is False
    assert read_value(N, "-3") == -3
    assert read_value(A, "5") == "5"
    for variable in (B, N):
        with pytest.raises(ValuesError):
            read_value(variable, "perhaps")
