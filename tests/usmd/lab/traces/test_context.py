from usmd.lab.traces.context import Context, shown


def test_an_error_names_file_line_value_and_what_is_allowed():
    error = Context("a.csv").bad_line(7, "x", "is not an id", "an integer")
    assert str(error) == "a.csv, line 7: 'x' is not an id; allowed is an integer"


def test_an_error_names_the_byte_of_a_binary_file():
    assert (
        str(Context("b").bad_byte(24, "5", "is no kind", "0 to 3")) == "b, byte 24: '5' is no kind; allowed is 0 to 3"
    )


def test_a_value_is_shown_up_to_80_characters():
    assert shown("a" * 80) == repr("a" * 80)
    assert shown("a" * 81) == repr("a" * 77 + "...")


def test_a_value_cannot_reach_the_terminal():
    assert "\x1b" not in shown("\x1b[2J")


def test_contexts_do_not_share_their_columns():
    Context("a").columns["id"] = "x"
    assert Context("b").columns == {}
