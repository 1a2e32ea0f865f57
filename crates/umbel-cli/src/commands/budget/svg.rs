//! Curves as one picture that needs nothing else.

use super::scale::Scale;

/// One curve with its axes.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    pub(super) x_label: &'static str,
    pub(super) y_label: &'static str,
    pub(super) x: Scale,
    pub(super) y: Scale,
    /// The curve; first coordinates ascend.
    pub(super) points: Vec<(f64, f64)>,
    /// A line to compare with.
    pub(super) compared: Vec<(f64, f64)>,
}

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 18.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 52.0;
/// Room above the panels for the heading, and below for the terms.
const HEADING: f64 = 44.0;
const LINE: f64 = 17.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1b1d1f}.h{font-size:16px;font-weight:600}\
    .t{font-size:13px;font-weight:600}.m{fill:#5b6066}.g{stroke:#e4e4de}.a{stroke:#5b6066}\
    .c{fill:none;stroke:#0072b2;stroke-width:2}.r{fill:none;stroke:#8a8f94;stroke-dasharray:5 4}";

/// The panels side by side under `heading`, with `terms` below them.
pub(super) fn draw(heading: &str, panels: &[Panel], terms: &[String]) -> String {
    let width = panels.iter().fold(0.0, |width, _| width + WIDTH);
    let height = terms
        .iter()
        .fold(HEADING + HEIGHT + 12.0, |height, _| height + LINE);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" role=\"img\">\n<title>{}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n",
        escape(heading)
    );
    svg.push_str(&label("h", 20.0, 28.0, "start", heading));
    let mut left = 0.0;
    for panel in panels {
        svg.push_str(&format!(
            "<g transform=\"translate({left} {HEADING})\">\n{}</g>\n",
            panel.draw()
        ));
        left += WIDTH;
    }
    let mut y = HEADING + HEIGHT + LINE;
    for line in terms {
        svg.push_str(&label("m", 20.0, y, "start", line));
        y += LINE;
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self) -> String {
        let (x, y) = (|value: f64| self.at_x(value), |value: f64| self.at_y(value));
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let middle = 0.5 * (LEFT + right);
        let mut svg = label("t", LEFT, TOP - 14.0, "start", self.title);
        for (tick, text) in self.x.ticks() {
            svg.push_str(&line("g", x(tick), TOP, x(tick), bottom));
            svg.push_str(&label("m", x(tick), bottom + 17.0, "middle", &text));
        }
        for (tick, text) in self.y.ticks() {
            svg.push_str(&line("g", LEFT, y(tick), right, y(tick)));
            svg.push_str(&label("m", LEFT - 7.0, y(tick) + 4.0, "end", &text));
        }
        svg.push_str(&line("a", LEFT, bottom, right, bottom));
        svg.push_str(&line("a", LEFT, TOP, LEFT, bottom));
        svg.push_str(&label("m", middle, HEIGHT - 14.0, "middle", self.x_label));
        let centre = 0.5 * (TOP + bottom);
        svg.push_str(&format!(
            "<text class=\"m\" transform=\"translate(16 {centre}) rotate(-90)\" text-anchor=\"middle\">{}</text>\n",
            escape(self.y_label)
        ));
        svg.push_str(&self.curve("r", &self.compared));
        svg.push_str(&self.curve("c", &self.points));
        svg
    }

    fn curve(&self, class: &str, points: &[(f64, f64)]) -> String {
        if points.is_empty() {
            return String::new();
        }
        let pair = |point: &(f64, f64)| format!("{:.2},{:.2}", self.at_x(point.0), self.at_y(point.1));
        let path: Vec<_> = points.iter().map(pair).collect();
        format!("<polyline class=\"{class}\" points=\"{}\"/>\n", path.join(" "))
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)
    }
}

fn line(class: &str, x1: f64, y1: f64, x2: f64, y2: f64) -> String {
    format!("<line class=\"{class}\" x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\"/>\n")
}

fn label(class: &str, x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!(
        "<text class=\"{class}\" x=\"{x:.2}\" y=\"{y:.2}\" text-anchor=\"{anchor}\">{}</text>\n",
        escape(text)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_needs_nothing_else_and_holds_every_point() {
        let panel = Panel {
            title: "a & b",
            x_label: "x",
            y_label: "y < z",
            x: Scale::between(0.0, 1.0),
            y: Scale::between(0.0, 2.0),
            points: vec![(0.0, 0.0), (0.5, 1.0), (1.0, 2.0)],
            compared: Vec::new(),
        };
        let svg = draw("heading", &[panel], &["one".to_owned(), "two".to_owned()]);
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        assert!(
            svg.contains("points=\"66.00,278.00 234.00,159.00 402.00,40.00\""),
            "{svg}"
        );
        assert!(svg.contains("a &amp; b") && svg.contains("y &lt; z") && svg.contains(">two<"));
        assert!(!svg.contains("href") && !svg.contains("url(") && !svg.contains("NaN"));
        for tag in ["g", "svg", "style", "title"] {
            let opened = svg.matches(&format!("<{tag} ")).count() + svg.matches(&format!("<{tag}>")).count();
            assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
