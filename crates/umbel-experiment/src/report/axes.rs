//! The frame of a figure: its measures, grid lines and labels.

use super::{
    markup::{Markup, coordinate},
    scale::Axis,
};

/// Width of every figure's drawing in its own units, which are about pixels.
pub(super) const WIDTH: f64 = 360.0;
/// Distance between the lower edge of a plot and that of its drawing.
pub(super) const BOTTOM: f64 = 36.0;
/// Distance between the upper edge of a plot and that of its drawing.
pub(super) const TOP: f64 = 8.0;
/// Distance between the right edge of a plot and that of its drawing.
pub(super) const RIGHT: f64 = 12.0;

/// Room for the longest label beside a vertical axis.
pub(super) fn left_margin(axis: &Axis, suffix: &str) -> f64 {
    let longest = axis
        .ticks
        .iter()
        .map(|tick| axis.label(*tick).len() + suffix.len())
        .max()
        .unwrap_or(1);
    12.0 + 7.4 * longest as f64
}

/// Horizontal grid lines and their labels at the left.
pub(super) fn value_axis(markup: &mut Markup, axis: &Axis, suffix: &str, left: f64, height: f64) {
    for tick in &axis.ticks {
        let y = height - BOTTOM - axis.share(*tick) * (height - BOTTOM - TOP);
        let (from, to, at) = (coordinate(left), coordinate(WIDTH - RIGHT), coordinate(y));
        markup.element(
            "line",
            &[
                ("class", "grid"),
                ("x1", &from),
                ("y1", &at),
                ("x2", &to),
                ("y2", &at),
            ],
            |_| {},
        );
        let (x, y) = (coordinate(left - 6.0), coordinate(y + 4.0));
        let label = format!("{}{suffix}", axis.label(*tick));
        markup.leaf("text", &[("class", "end"), ("x", &x), ("y", &y)], &label);
    }
}

/// The line at the foot of a plot, its labels, and what they count.
pub(super) fn base_axis(
    markup: &mut Markup,
    axis: &Axis,
    across: impl Fn(f64) -> f64,
    left: f64,
    height: f64,
    name: &str,
) {
    let base = height - BOTTOM;
    let (from, to, at) = (coordinate(left), coordinate(WIDTH - RIGHT), coordinate(base));
    markup.element(
        "line",
        &[
            ("class", "axis"),
            ("x1", &from),
            ("y1", &at),
            ("x2", &to),
            ("y2", &at),
        ],
        |_| {},
    );
    for tick in &axis.ticks {
        let (x, y, foot) = (
            coordinate(across(*tick)),
            coordinate(base + 16.0),
            coordinate(base + 4.0),
        );
        markup.element(
            "line",
            &[
                ("class", "axis"),
                ("x1", &x),
                ("y1", &at),
                ("x2", &x),
                ("y2", &foot),
            ],
            |_| {},
        );
        markup.leaf(
            "text",
            &[("class", "middle"), ("x", &x), ("y", &y)],
            &axis.label(*tick),
        );
    }
    let (x, y) = (
        coordinate(f64::midpoint(left, WIDTH - RIGHT)),
        coordinate(height - 4.0),
    );
    markup.leaf("text", &[("class", "middle"), ("x", &x), ("y", &y)], name);
}
