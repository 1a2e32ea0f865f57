//! A curve in characters.

use super::scale::Scale;

const WIDTH: u32 = 64;
const HEIGHT: u32 = 12;

/// A curve through `points`, whose first coordinates ascend, with `title` above it and labels on both axes.
pub(super) fn plot(title: &str, points: &[(f64, f64)], x: Scale, y: Scale) -> String {
    let mut rows: Vec<Vec<char>> = vec![vec![' '; to_index(WIDTH)]; to_index(HEIGHT)];
    for column in 0..WIDTH {
        let at = x.value(f64::from(column) / f64::from(WIDTH - 1));
        if let Some(value) = interpolate(points, at) {
            let row = cell(1.0 - y.share(value), HEIGHT);
            rows[row][to_index(column)] = '•';
        }
    }
    let mut labels = vec![String::new(); to_index(HEIGHT)];
    for (tick, label) in y.ticks() {
        labels[cell(1.0 - y.share(tick), HEIGHT)] = label;
    }
    let margin = labels
        .iter()
        .map(|label| label.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = format!("{title}\n");
    for (label, row) in labels.iter().zip(&rows) {
        let mark = if label.is_empty() { '│' } else { '┤' };
        let row: String = row.iter().collect();
        text.push_str(format!("  {label:>margin$} {mark}{row}").trim_end());
        text.push('\n');
    }
    let mut axis = vec!['─'; to_index(WIDTH)];
    let mut names = vec![' '; to_index(WIDTH) + 12];
    let mut free = 0;
    for (tick, label) in x.ticks() {
        let column = cell(x.share(tick), WIDTH);
        axis[column] = '┬';
        let length = label.chars().count();
        let start = (column + margin + 4).saturating_sub(length / 2);
        if start >= free && start + length <= names.len() + margin {
            names.resize(names.len().max(start + length), ' ');
            for (offset, character) in label.chars().enumerate() {
                names[start + offset] = character;
            }
            free = start + length + 1;
        }
    }
    let axis: String = axis.into_iter().collect();
    let names: String = names.into_iter().collect();
    text.push_str(&format!("  {:>margin$} └{axis}\n{}", "", names.trim_end()));
    text
}

/// The value at `at` on the line through the points on both sides.
fn interpolate(points: &[(f64, f64)], at: f64) -> Option<f64> {
    let (first, last) = (points.first()?, points.last()?);
    let slack = 1e-9 * last.0.abs();
    if at < first.0 - slack || at > last.0 + slack {
        return None;
    }
    let after = points
        .iter()
        .position(|point| point.0 >= at)
        .unwrap_or(points.len() - 1);
    let (right, left) = (points[after], points[after.saturating_sub(1)]);
    let width = right.0 - left.0;
    let share = if width > 0.0 {
        ((at - left.0) / width).clamp(0.0, 1.0)
    } else {
        1.0
    };
    Some(left.1 + share * (right.1 - left.1))
}

/// Which of `count` cells a share of the whole falls on, from its first to its last.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the small count"
)]
fn cell(share: f64, count: u32) -> usize {
    (share.clamp(0.0, 1.0) * f64::from(count - 1)).round() as usize
}

fn to_index(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_goes_from_corner_to_corner() {
        let points = [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)];
        let text = plot(
            "title",
            &points,
            Scale::between(0.0, 1.0),
            Scale::between(0.0, 1.0),
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "title");
        assert!(
            lines[1].starts_with("  1.0 ┤") && lines[1].ends_with('•'),
            "{text}"
        );
        assert!(lines[12].starts_with("  0.0 ┤•"), "{text}");
        assert!(
            lines[13].contains('└') && lines[14].contains("0.2") && lines[14].ends_with("1.0"),
            "{text}"
        );
        assert_eq!(text.matches('•').count(), 64, "one for each column");
    }

    #[test]
    fn one_point_or_none_is_no_reason_to_fail() {
        let scale = Scale::logarithmic(1.0, 1.0);
        assert_eq!(
            plot("t", &[(1.0, 2.0)], scale, Scale::from_zero(2.0))
                .matches('•')
                .count(),
            1
        );
        assert!(!plot("t", &[], scale, Scale::from_zero(0.0)).contains('•'));
    }
}
