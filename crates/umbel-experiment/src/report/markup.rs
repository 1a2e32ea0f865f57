//! HTML and SVG written so that every tag is closed and every text is escaped.

/// A piece of HTML under construction. Whatever goes in as text or attribute is escaped; tags are closed by
/// the function that opened them.
#[derive(Debug, Default)]
pub(super) struct Markup {
    out: String,
}

/// The attributes of one element.
pub(super) type Attributes<'a> = &'a [(&'static str, &'a str)];

impl Markup {
    /// An element around what `body` writes.
    pub(super) fn element(
        &mut self,
        tag: &'static str,
        attributes: Attributes<'_>,
        body: impl FnOnce(&mut Self),
    ) {
        self.open(tag, attributes);
        body(self);
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push('>');
    }

    /// An element around a text.
    pub(super) fn leaf(&mut self, tag: &'static str, attributes: Attributes<'_>, text: &str) {
        self.element(tag, attributes, |markup| markup.text(text));
    }

    /// An HTML element that has no end tag, such as `meta`.
    pub(super) fn void(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.open(tag, attributes);
    }

    /// A text.
    pub(super) fn text(&mut self, text: &str) {
        self.escaped(text);
    }

    /// What has been written, as another piece.
    pub(super) fn append(&mut self, other: &Self) {
        self.out.push_str(&other.out);
    }

    /// A text of this program's own that must not be escaped, such as a style sheet.
    pub(super) fn verbatim(&mut self, text: &'static str) {
        self.out.push_str(text);
    }

    /// A line break in the source, for those who read it or compare two pages.
    pub(super) fn line(&mut self) {
        self.out.push('\n');
    }

    /// Whether nothing has been written.
    pub(super) fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The finished text.
    pub(super) fn into_string(self) -> String {
        self.out
    }

    fn open(&mut self, tag: &'static str, attributes: Attributes<'_>) {
        self.out.push('<');
        self.out.push_str(tag);
        for (name, value) in attributes {
            self.out.push(' ');
            self.out.push_str(name);
            self.out.push_str("=\"");
            self.escaped(value);
            self.out.push('"');
        }
        self.out.push('>');
    }

    fn escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '"' => self.out.push_str("&quot;"),
                '\'' => self.out.push_str("&#39;"),
                // Control characters are not allowed in HTML text, and marks that turn the direction of
                // writing could make a page say what its source does not.
                '\n' | '\t' => self.out.push(character),
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => self.out.push('\u{fffd}'),
                other if other.is_control() => self.out.push('\u{fffd}'),
                other => self.out.push(other),
            }
        }
    }
}

/// A coordinate with one digit after the point: a tenth of a pixel is finer than a reader sees.
pub(super) fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_attributes_are_escaped() {
        let mut markup = Markup::default();
        markup.leaf("p", &[("title", "\"><script>")], "a < b & 'c'\u{0}\u{202e}");
        assert_eq!(
            markup.into_string(),
            "<p title=\"&quot;&gt;&lt;script&gt;\">a &lt; b &amp; &#39;c&#39;\u{fffd}\u{fffd}</p>"
        );
    }

    #[test]
    fn coordinates_are_short() {
        for (value, text) in [
            (1.0, "1"),
            (1.26, "1.3"),
            (-0.01, "0"),
            (-3.12, "-3.1"),
            (100.0, "100"),
        ] {
            assert_eq!(coordinate(value), text);
        }
    }
}
