//! How many clients hold how many examples.

use serde_json::Value;

use super::{
    axes::{BOTTOM, RIGHT, TOP, WIDTH, base_axis, left_margin, value_axis},
    field,
    markup::{Markup, coordinate},
    number,
    scale::{Axis, Steps},
};

const HEIGHT: f64 = 236.0;
const MOST_BARS: usize = 500;

/// A number of clients whose number of examples is at least `from` and below `to`.
struct Bar {
    from: f64,
    to: f64,
    clients: f64,
}

/// Draws a histogram of clients by number of examples, or nothing where there is none.
pub(super) fn draw(markup: &mut Markup, histogram: &[Value], title: &str, subtitle: &str) {
    let bars: Vec<Bar> = histogram.iter().filter_map(bar).take(MOST_BARS).collect();
    let (Some(low), Some(high)) = (
        bars.iter().map(|bar| bar.from).reduce(f64::min),
        bars.iter().map(|bar| bar.to).reduce(f64::max),
    ) else {
        return;
    };
    let most = bars.iter().map(|bar| bar.clients).fold(0.0, f64::max);
    let values = Axis::around(0.0, most, 4.0, Steps::Whole);
    let left = left_margin(&values, "");
    let examples = Axis::within(low, high, 5.0, Steps::Whole);
    let across = |value: f64| left + examples.share(value) * (WIDTH - RIGHT - left);
    let upward = |value: f64| HEIGHT - BOTTOM - values.share(value) * (HEIGHT - BOTTOM - TOP);
    markup.element("figure", &[("class", "card")], |markup| {
        markup.element("figcaption", &[], |markup| {
            markup.leaf("h3", &[], title);
            markup.leaf("p", &[("class", "sub")], subtitle);
        });
        let view_box = format!("0 0 {WIDTH} {HEIGHT}");
        let about = format!("{title}: {subtitle}");
        let attributes = [
            ("viewBox", view_box.as_str()),
            ("role", "img"),
            ("aria-label", &about),
        ];
        markup.element("svg", &attributes, |markup| {
            value_axis(markup, &values, "", left, HEIGHT);
            for bar in &bars {
                let gap = if across(bar.to) - across(bar.from) > 4.0 {
                    1.0
                } else {
                    0.0
                };
                // One client among thousands is seen too.
                let tall = (upward(0.0) - upward(bar.clients)).max(if bar.clients > 0.0 { 1.5 } else { 0.0 });
                let (x, y) = (
                    coordinate(across(bar.from) + 0.5 * gap),
                    coordinate(upward(0.0) - tall),
                );
                let width = coordinate((across(bar.to) - across(bar.from) - gap).max(0.5));
                let height = coordinate(tall);
                markup.element("g", &[("class", "bar")], |markup| {
                    markup.leaf("title", &[], &tooltip(bar));
                    let place = [
                        ("x", x.as_str()),
                        ("y", &y),
                        ("width", &width),
                        ("height", &height),
                    ];
                    markup.element("rect", &place, |_| {});
                });
            }
            base_axis(markup, &examples, across, left, HEIGHT, "examples");
        });
    });
    markup.line();
}

fn tooltip(bar: &Bar) -> String {
    let last = bar.to - 1.0;
    let range = if last > bar.from {
        format!("{} to {}", number::count(bar.from), number::count(last))
    } else {
        number::count(bar.from)
    };
    format!("{range} examples: {}", number::of(bar.clients, "client"))
}

fn bar(value: &Value) -> Option<Bar> {
    let bar = Bar {
        from: field::number(value, "/from")?,
        to: field::number(value, "/to")?,
        clients: field::number(value, "/clients")?,
    };
    (bar.from < bar.to && bar.clients >= 0.0).then_some(bar)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drawn(histogram: &Value) -> String {
        let mut markup = Markup::default();
        draw(&mut markup, field::list(histogram, ""), "Examples", "by client");
        markup.into_string()
    }

    #[test]
    fn each_bar_tells_its_range() {
        let html = drawn(&json!([
            {"from": 15, "to": 20, "clients": 3},
            {"from": 20, "to": 25, "clients": 1200},
            {"from": 48, "to": 49, "clients": 1},
            {"from": 25, "clients": 7},
            {"from": 30, "to": 30, "clients": 7},
            "no bar",
        ]));
        assert_eq!(html.matches("class=\"bar\"").count(), 3);
        assert!(
            html.contains("<title>15 to 19 examples: 3 clients</title>"),
            "{html}"
        );
        assert!(html.contains("1,200 clients"), "{html}");
        assert!(html.contains("<title>48 examples: 1 client</title>"), "{html}");
    }

    #[test]
    fn no_bars_no_figure() {
        assert_eq!(drawn(&json!([])), "");
        assert_eq!(drawn(&json!(null)), "");
    }
}
