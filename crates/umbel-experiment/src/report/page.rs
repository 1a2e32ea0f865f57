//! The page as a whole.

use serde_json::Value;

use super::{
    diagnostics, facts, header, markup::Markup, privacy, progress, record::RunRecord, style::STYLE,
    view::RunView,
};

/// Forbids the page to run or fetch anything, should a browser ever find something in it to run or fetch.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/// Renders one run, or several compared, as one HTML page that is complete in itself.
///
/// The page holds its style sheet and its plots, no script and no address of another file. It follows the
/// reader's choice of a light or dark scheme and prints in the light one. Every text from the records is escaped.
/// What the records do not hold is left out; the result depends on nothing but the records.
pub fn render(runs: &[RunRecord]) -> String {
    let runs = RunView::all(runs);
    document(&header::title(&runs), |page| {
        header::header(page, &runs);
        progress::section(page, &runs);
        privacy::section(page, &runs);
        facts::section(page, &runs);
        diagnostics::section(page, &runs);
    })
}

/// Renders who holds what as a page of the same kind. `facts` are those that a run's summary has of its partition.
///
/// They are computed on the clients' data: the page says that only a simulator may see them and that no ε covers them.
pub fn render_partition(name: &str, facts: &Value) -> String {
    document(&format!("{name}: who holds what"), |page| {
        page.element("header", &[], |page| {
            page.leaf("p", &[("class", "eyebrow")], "Umbel data partition");
            page.leaf("h1", &[], name);
        });
        page.line();
        diagnostics::partition_section(page, facts);
    })
}

/// A page with a title around what `body` writes.
pub(super) fn document(title: &str, body: impl FnOnce(&mut Markup)) -> String {
    let mut page = Markup::default();
    page.verbatim("<!doctype html>\n");
    page.element("html", &[("lang", "en")], |page| {
        page.line();
        page.element("head", &[], |page| {
            page.void("meta", &[("charset", "utf-8")]);
            page.void(
                "meta",
                &[
                    ("name", "viewport"),
                    ("content", "width=device-width, initial-scale=1"),
                ],
            );
            page.void(
                "meta",
                &[("http-equiv", "Content-Security-Policy"), ("content", POLICY)],
            );
            // Without this, browsers ask the server for an icon.
            page.void("link", &[("rel", "icon"), ("href", "data:,")]);
            page.leaf("title", &[], title);
            page.element("style", &[], |page| page.verbatim(STYLE));
        });
        page.line();
        page.element("body", &[], |page| page.element("main", &[], body));
        page.line();
    });
    page.line();
    page.into_string()
}
