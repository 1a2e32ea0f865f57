//! Curves by round, or by something else that is counted, as a figure with a legend.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    axes::{BOTTOM, RIGHT, TOP, WIDTH, base_axis, left_margin, value_axis},
    markup::{Markup, coordinate},
    number,
    scale::{Axis, Steps},
    view::Curve,
};

const HEIGHT: f64 = 236.0;
/// Curves of at most this many points show each as a dot.
const MOST_DOTS: usize = 30;
/// A curve with more points than this is drawn by the extremes of as many stretches.
const MOST_STRETCHES: usize = 300;
/// Places to point at are at least so far apart.
const ZONE_WIDTH: f64 = 2.0;

/// What values measure, and so how they are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// A whole number of something.
    Count,
    /// An upper bound on ε.
    Epsilon,
    /// A real number without a unit.
    Number,
    /// A part of one, shown in percent.
    Share,
}

/// One curve.
#[derive(Debug)]
pub(super) struct Series {
    /// What it shows, for the legend.
    pub(super) name: String,
    /// Which colour and dash.
    pub(super) look: usize,
    /// Its points.
    pub(super) curve: Curve,
}

/// A value to compare with: a horizontal line.
#[derive(Debug)]
pub(super) struct Reference {
    /// What it is, its value included.
    pub(super) name: String,
    /// Where it lies.
    pub(super) value: f64,
}

/// What the horizontal axis counts, in whole numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    /// Its name below the plot.
    pub(super) axis: &'static str,
    /// How one of its values is called.
    pub(super) point: &'static str,
}

impl Base {
    /// Rounds of a run.
    pub(super) const ROUND: Self = Self {
        axis: "round",
        point: "round",
    };
}

/// A figure with curves, by round or by something else that is counted.
#[derive(Debug)]
pub(super) struct Chart {
    /// What is shown.
    pub(super) title: String,
    /// On what, in which unit, and what to know for reading it.
    pub(super) subtitle: String,
    /// What the curves go by.
    pub(super) base: Base,
    /// What the values measure.
    pub(super) unit: Unit,
    /// Whether the axis begins at zero whatever the values are.
    pub(super) from_zero: bool,
    /// The curves.
    pub(super) series: Vec<Series>,
    /// Lines to compare with.
    pub(super) references: Vec<Reference>,
}

impl Unit {
    fn format(self, value: f64) -> String {
        match self {
            Self::Count => number::count(value),
            Self::Epsilon => number::epsilon_upper(value),
            Self::Number => number::plain(value),
            Self::Share => number::percent(value),
        }
    }

    /// From a value to what the axis counts in.
    fn scaled(self, value: f64) -> f64 {
        if self == Self::Share { 100.0 * value } else { value }
    }

    fn suffix(self) -> &'static str {
        if self == Self::Share { "%" } else { "" }
    }
}

impl Chart {
    /// Draws the figure, or nothing where no curve has a value.
    pub(super) fn draw(&self, markup: &mut Markup) {
        let values = || {
            self.series
                .iter()
                .flat_map(|series| &series.curve)
                .filter_map(|point| point.1)
        };
        if values().next().is_none() {
            return;
        }
        let frame = Frame::new(self);
        markup.element("figure", &[("class", "card")], |markup| {
            markup.element("figcaption", &[], |markup| {
                markup.leaf("h3", &[], &self.title);
                if !self.subtitle.is_empty() {
                    markup.leaf("p", &[("class", "sub")], &self.subtitle);
                }
            });
            self.legend(markup);
            let view_box = format!("0 0 {WIDTH} {HEIGHT}");
            let about = self.description();
            let attributes = [
                ("viewBox", view_box.as_str()),
                ("role", "img"),
                ("aria-label", &about),
            ];
            markup.element("svg", &attributes, |markup| {
                frame.draw(markup, self.base);
                for reference in &self.references {
                    let y = coordinate(frame.y(self.unit.scaled(reference.value)));
                    let (left, right) = (coordinate(frame.left), coordinate(WIDTH - RIGHT));
                    let line = [
                        ("class", "reference"),
                        ("x1", &left),
                        ("y1", &y),
                        ("x2", &right),
                        ("y2", &y),
                    ];
                    markup.element("line", &line, |_| {});
                }
                for series in &self.series {
                    self.curve(markup, &frame, series);
                }
                self.zones(markup, &frame);
            });
        });
        markup.line();
    }

    /// Names for the curves, where there is more than one thing to tell apart.
    fn legend(&self, markup: &mut Markup) {
        if self.series.len() + self.references.len() < 2 {
            return;
        }
        markup.element("ul", &[("class", "legend")], |markup| {
            for series in &self.series {
                markup.element("li", &[], |markup| {
                    swatch(markup, &format!("line {}", look(series.look)));
                    markup.text(&series.name);
                });
            }
            for reference in &self.references {
                markup.element("li", &[], |markup| {
                    swatch(markup, "reference");
                    markup.text(&reference.name);
                });
            }
        });
    }

    /// The figure in words: where each curve begins and ends.
    fn description(&self) -> String {
        let mut words = self.title.clone();
        for series in &self.series {
            let known = || {
                series
                    .curve
                    .iter()
                    .filter_map(|(round, value)| value.map(|value| (*round, value)))
            };
            if let (Some(first), Some(last)) = (known().next(), known().next_back()) {
                words.push_str(&format!(
                    "; {}: {} in {point} {}, {} in {point} {}",
                    series.name,
                    self.unit.format(first.1),
                    first.0,
                    self.unit.format(last.1),
                    last.0,
                    point = self.base.point,
                ));
            }
        }
        words
    }

    fn curve(&self, markup: &mut Markup, frame: &Frame, series: &Series) {
        let mut path = String::new();
        let mut pen_down = false;
        for (round, value) in thinned(&series.curve) {
            let Some(value) = value else {
                pen_down = false;
                continue;
            };
            let (x, y) = (frame.x(round), frame.y(self.unit.scaled(value)));
            let command = if pen_down { 'L' } else { 'M' };
            path.push_str(&format!("{command}{} {}", coordinate(x), coordinate(y)));
            if !pen_down {
                path.push_str("h0"); // a round cap makes a lone point visible
            }
            pen_down = true;
        }
        let class = format!("line {}", look(series.look));
        markup.element("path", &[("class", &class), ("d", &path)], |_| {});
        if self.series.iter().all(|series| series.curve.len() <= MOST_DOTS) {
            for (round, value) in &series.curve {
                if let Some(value) = value {
                    dot(markup, frame, series.look, *round, self.unit.scaled(*value));
                }
            }
        }
    }

    /// Invisible columns to point at: each tells the values of its round.
    fn zones(&self, markup: &mut Markup, frame: &Frame) {
        let curves: Vec<BTreeMap<u64, f64>> = self
            .series
            .iter()
            .map(|series| {
                series
                    .curve
                    .iter()
                    .filter_map(|(round, value)| Some((*round, (*value)?)))
                    .collect()
            })
            .collect();
        let rounds: BTreeSet<u64> = curves.iter().flat_map(|curve| curve.keys().copied()).collect();
        let last = rounds.last().copied();
        let mut shown: Vec<u64> = Vec::new();
        for round in rounds {
            let far_enough = shown
                .last()
                .is_none_or(|before| frame.x(round) - frame.x(*before) >= ZONE_WIDTH);
            if far_enough {
                shown.push(round);
            } else if Some(round) == last {
                shown.pop();
                shown.push(round);
            }
        }
        let middle = |a: u64, b: u64| f64::midpoint(frame.x(a), frame.x(b));
        for (index, round) in shown.iter().copied().enumerate() {
            let before = index.checked_sub(1).and_then(|before| shown.get(before));
            let left = before.map_or(frame.left, |before| middle(*before, round));
            let right = shown
                .get(index + 1)
                .map_or(WIDTH - RIGHT, |after| middle(round, *after));
            let mut title = format!("{} {}", self.base.point, number::count(round as f64));
            for (series, curve) in self.series.iter().zip(&curves) {
                if let Some(value) = curve.get(&round) {
                    title.push_str(&format!("\n{}: {}", series.name, self.unit.format(*value)));
                }
            }
            markup.element("g", &[("class", "zone")], |markup| {
                markup.leaf("title", &[], &title);
                let (x, y) = (coordinate(left), coordinate(TOP));
                let (width, height) = (coordinate(right - left), coordinate(HEIGHT - TOP - BOTTOM));
                markup.element(
                    "rect",
                    &[("x", &x), ("y", &y), ("width", &width), ("height", &height)],
                    |_| {},
                );
                for (series, curve) in self.series.iter().zip(&curves) {
                    if let Some(value) = curve.get(&round) {
                        dot(markup, frame, series.look, round, self.unit.scaled(*value));
                    }
                }
            });
        }
    }
}

/// The plot's place in its drawing, and its axes.
struct Frame {
    left: f64,
    rounds: Axis,
    values: Axis,
    suffix: &'static str,
}

impl Frame {
    fn new(chart: &Chart) -> Self {
        let mut low = f64::INFINITY;
        let mut high = f64::NEG_INFINITY;
        let values = chart
            .series
            .iter()
            .flat_map(|series| &series.curve)
            .filter_map(|point| point.1);
        for value in values.chain(chart.references.iter().map(|reference| reference.value)) {
            low = low.min(chart.unit.scaled(value));
            high = high.max(chart.unit.scaled(value));
        }
        // An axis from zero is the honest one; it is given up only where it would hide the curve.
        if low > 0.0 && (chart.from_zero || low < 0.4 * high) {
            low = 0.0;
        }
        let steps = if chart.unit == Unit::Count {
            Steps::Whole
        } else {
            Steps::Any
        };
        let axis = Axis::around(low, high, 4.0, steps);
        let suffix = chart.unit.suffix();

        let rounds = || {
            chart
                .series
                .iter()
                .flat_map(|series| &series.curve)
                .map(|point| point.0)
        };
        let first = rounds().min().unwrap_or(0) as f64;
        let last = rounds().max().unwrap_or(1) as f64;
        let first = if first < 0.4 * last || first <= 1.0 {
            0.0
        } else {
            first
        };
        Self {
            left: left_margin(&axis, suffix),
            rounds: Axis::within(first, last, 5.0, Steps::Whole),
            values: axis,
            suffix,
        }
    }

    fn x(&self, round: u64) -> f64 {
        self.left + self.rounds.share(round as f64) * (WIDTH - RIGHT - self.left)
    }

    fn y(&self, scaled: f64) -> f64 {
        HEIGHT - BOTTOM - self.values.share(scaled) * (HEIGHT - BOTTOM - TOP)
    }

    fn draw(&self, markup: &mut Markup, base: Base) {
        value_axis(markup, &self.values, self.suffix, self.left, HEIGHT);
        let across = |value: f64| self.left + self.rounds.share(value) * (WIDTH - RIGHT - self.left);
        base_axis(markup, &self.rounds, across, self.left, HEIGHT, base.axis);
    }
}

/// A short stretch of line, as it looks in the plot.
pub(super) fn swatch(markup: &mut Markup, class: &str) {
    let box_of_swatch = [
        ("class", "swatch"),
        ("viewBox", "0 0 26 10"),
        ("aria-hidden", "true"),
    ];
    markup.element("svg", &box_of_swatch, |markup| {
        markup.element(
            "line",
            &[
                ("class", class),
                ("x1", "1"),
                ("y1", "5"),
                ("x2", "25"),
                ("y2", "5"),
            ],
            |_| {},
        );
    });
}

/// The classes for the colour and dash of the curve at a place: no two of the first 24 are the same.
pub(super) fn look(place: usize) -> String {
    format!("c{} d{}", place % 6, (place % 6 + place / 6) % 4)
}

fn dot(markup: &mut Markup, frame: &Frame, place: usize, round: u64, scaled: f64) {
    let class = format!("dot c{}", place % 6);
    let (x, y) = (coordinate(frame.x(round)), coordinate(frame.y(scaled)));
    markup.element(
        "circle",
        &[("class", &class), ("cx", &x), ("cy", &y), ("r", "2.6")],
        |_| {},
    );
}

/// The same curve for the eye with a bounded number of points: of each stretch its least and its largest value.
fn thinned(curve: &[(u64, Option<f64>)]) -> Curve {
    if curve.len() <= 2 * MOST_STRETCHES {
        return curve.to_vec();
    }
    let mut thin = Vec::new();
    for stretch in curve.chunks(curve.len().div_ceil(MOST_STRETCHES)) {
        let known = || {
            stretch
                .iter()
                .filter_map(|(round, value)| value.map(|value| (*round, value)))
        };
        let least = known().min_by(|a, b| a.1.total_cmp(&b.1));
        let largest = known().max_by(|a, b| a.1.total_cmp(&b.1));
        let (Some(least), Some(largest)) = (least, largest) else {
            thin.extend(stretch.first().copied());
            continue;
        };
        let (first, second) = if least.0 < largest.0 {
            (least, largest)
        } else {
            (largest, least)
        };
        thin.push((first.0, Some(first.1)));
        if first.0 != second.0 {
            thin.push((second.0, Some(second.1)));
        }
    }
    // A curve ends where it ends, whatever the last stretch's extremes are.
    if thin.last().map(|point| point.0) != curve.last().map(|point| point.0) {
        thin.extend(curve.last().copied());
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(unit: Unit, curve: Curve) -> String {
        let chart = Chart {
            base: Base::ROUND,
            title: "Accuracy".to_owned(),
            subtitle: String::new(),
            unit,
            from_zero: false,
            series: vec![Series {
                name: "accuracy".to_owned(),
                look: 0,
                curve,
            }],
            references: Vec::new(),
        };
        let mut markup = Markup::default();
        chart.draw(&mut markup);
        markup.into_string()
    }

    #[test]
    fn a_curve_without_values_is_left_out() {
        assert_eq!(chart(Unit::Share, Vec::new()), "");
        assert_eq!(chart(Unit::Share, vec![(1, None), (2, None)]), "");
    }

    #[test]
    fn one_round_is_one_dot() {
        let html = chart(Unit::Share, vec![(1, Some(0.5))]);
        assert!(
            html.contains("<title>round 1\naccuracy: 50.00%</title>"),
            "{html}"
        );
        assert_eq!(
            html.matches("<circle").count(),
            2,
            "a dot and its double to point at: {html}"
        );
    }

    #[test]
    fn a_gap_breaks_the_line() {
        let html = chart(
            Unit::Number,
            vec![(1, Some(1.0)), (2, None), (3, Some(3.0)), (4, Some(2.0))],
        );
        let path = html
            .split(" d=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap();
        assert_eq!(path.matches('M').count(), 2, "{path}");
        assert_eq!(path.matches('L').count(), 1, "{path}");
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_extremes() {
        let curve: Curve = (1..=20_000)
            .map(|round| {
                (
                    round,
                    Some(if round == 777 {
                        9.0
                    } else {
                        f64::from(u32::from(round % 2 == 0))
                    }),
                )
            })
            .collect();
        let thin = thinned(&curve);
        assert!(thin.len() <= 2 * MOST_STRETCHES + 1, "{}", thin.len());
        assert!(thin.contains(&(777, Some(9.0))));
        assert_eq!(thin.last().unwrap().0, 20_000);
        assert!(thin.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(chart(Unit::Number, curve).len() < 60_000);
    }

    #[test]
    fn looks_differ() {
        let looks: BTreeSet<String> = (0..24).map(look).collect();
        assert_eq!(looks.len(), 24);
    }
}
