//! Cells of comma-separated values, for people who open them in a spreadsheet.

/// Writes a cell as RFC 4180 says, quoted. One that a spreadsheet would take for a formula gets an apostrophe in front: the texts come from
/// people and devices.
pub(super) fn quote(text: &mut String, cell: &str) {
    text.push('"');
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) {
        text.push('\'');
    }
    text.push_str(&cell.replace('"', "\"\""));
    text.push('"');
}

/// Writes a line of such cells.
pub(super) fn line<'a>(text: &mut String, cells: impl IntoIterator<Item = &'a str>) {
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        quote(text, cell);
    }
    text.push_str("\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_and_never_a_formula() {
        for (cell, expected) in [
            ("", "\"\""),
            ("Officer 4711", "\"Officer 4711\""),
            ("a \"b\", c\r\nd", "\"a \"\"b\"\", c\r\nd\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
        ] {
            let mut text = String::new();
            quote(&mut text, cell);
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn a_line_ends_as_rfc_4180_says() {
        let mut text = String::new();
        line(&mut text, ["a", "b"]);
        assert_eq!(text, "\"a\",\"b\"\r\n");
    }
}
