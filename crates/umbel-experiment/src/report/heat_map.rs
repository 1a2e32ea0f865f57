//! Which client holds how many examples of which class.

use serde_json::Value;

use super::{
    axes::{RIGHT, TOP, WIDTH},
    field,
    markup::{Markup, coordinate},
    number,
};

/// More rows than this are not drawn.
const MOST_ROWS: usize = 50;
/// More columns than this are drawn as sums of neighbours.
const MOST_COLUMNS: usize = 50;
const LEFT: f64 = 34.0;
const FOOT: f64 = 36.0;

/// Draws counts by client (rows) and class (columns), or nothing where there are none. `clients` is how many
/// clients there are in all, of which the rows are the first.
pub(super) fn draw(markup: &mut Markup, labels: &[Value], clients: Option<f64>, title: &str) {
    let Some(table) = Table::new(labels) else {
        return;
    };
    let shown = table.rows.len();
    let mut subtitle = match clients {
        Some(clients) if clients > shown as f64 => {
            format!("the first {shown} of {} clients", number::count(clients))
        }
        _ => format!("{shown} clients"),
    };
    if table.classes_per_column > 1 {
        subtitle.push_str(&format!(", {} classes a column", table.classes_per_column));
    }
    // From four to fifty rows make a figure as tall as the others.
    let cell_height = (192.0 / shown as f64).clamp(3.84, 48.0);
    let bottom = TOP + cell_height * shown as f64;
    markup.element("figure", &[("class", "card")], |markup| {
        markup.element("figcaption", &[], |markup| {
            markup.leaf("h3", &[], title);
            markup.leaf("p", &[("class", "sub")], &subtitle);
        });
        key(markup, table.largest);
        let view_box = format!("0 0 {WIDTH} {}", coordinate(bottom + FOOT));
        let about = format!("{title}: {subtitle}");
        let attributes = [
            ("viewBox", view_box.as_str()),
            ("role", "img"),
            ("aria-label", &about),
        ];
        markup.element("svg", &attributes, |markup| {
            table.draw(markup, cell_height, bottom)
        });
    });
    markup.line();
}

/// What the shades mean.
fn key(markup: &mut Markup, largest: f64) {
    markup.element("p", &[("class", "key")], |markup| {
        markup.text("0 ");
        let attributes = [
            ("class", "ramp"),
            ("viewBox", "0 0 100 10"),
            ("preserveAspectRatio", "none"),
            ("aria-hidden", "true"),
        ];
        markup.element("svg", &attributes, |markup| {
            for (x, share) in [("0", 0.0), ("20", 0.25), ("40", 0.5), ("60", 0.75), ("80", 1.0)] {
                let opacity = opacity(share);
                let place = [
                    ("x", x),
                    ("y", "0"),
                    ("width", "20"),
                    ("height", "10"),
                    ("fill-opacity", &opacity),
                ];
                markup.element("rect", &place, |_| {});
            }
        });
        markup.text(&format!(" {}", number::of(largest, "example")));
    });
}

/// A class that is barely there is still seen; one that is not there is not.
fn opacity(share: f64) -> String {
    if share > 0.0 {
        format!("{:.2}", 0.1 + 0.9 * share)
    } else {
        "0".to_owned()
    }
}

struct Table {
    rows: Vec<Vec<f64>>,
    columns: usize,
    classes: usize,
    classes_per_column: usize,
    largest: f64,
}

impl Table {
    fn new(labels: &[Value]) -> Option<Self> {
        let counts: Vec<Vec<f64>> = labels
            .iter()
            .filter_map(Value::as_array)
            .take(MOST_ROWS)
            .map(|row| {
                row.iter()
                    .map(|count| field::finite(count).unwrap_or(0.0).max(0.0))
                    .collect()
            })
            .collect();
        let classes = counts.iter().map(Vec::len).max().filter(|classes| *classes > 0)?;
        let classes_per_column = classes.div_ceil(MOST_COLUMNS);
        let rows: Vec<Vec<f64>> = counts
            .iter()
            .map(|row| {
                row.chunks(classes_per_column)
                    .map(|chunk| chunk.iter().sum())
                    .collect()
            })
            .collect();
        let largest = rows.iter().flatten().copied().fold(0.0, f64::max);
        let columns = classes.div_ceil(classes_per_column);
        Some(Self {
            rows,
            columns,
            classes,
            classes_per_column,
            largest,
        })
    }

    fn draw(&self, markup: &mut Markup, cell_height: f64, bottom: f64) {
        let cell_width = (WIDTH - RIGHT - LEFT) / self.columns as f64;
        let (left, top) = (coordinate(LEFT), coordinate(TOP));
        let (width, height) = (coordinate(WIDTH - RIGHT - LEFT), coordinate(bottom - TOP));
        let ground = [
            ("class", "ground"),
            ("x", left.as_str()),
            ("y", &top),
            ("width", &width),
            ("height", &height),
        ];
        markup.element("rect", &ground, |_| {});
        for (row_index, row) in self.rows.iter().enumerate() {
            let y = TOP + cell_height * row_index as f64;
            for (column, count) in row.iter().enumerate() {
                let x = LEFT + cell_width * column as f64;
                let title = format!(
                    "client {}, {}: {}",
                    row_index + 1,
                    self.column_name(column),
                    number::of(*count, "example")
                );
                markup.element("g", &[("class", "cell")], |markup| {
                    markup.leaf("title", &[], &title);
                    let share = if self.largest > 0.0 {
                        *count / self.largest
                    } else {
                        0.0
                    };
                    let (x, y, opacity) = (coordinate(x), coordinate(y), opacity(share));
                    let (width, height) = (coordinate(cell_width), coordinate(cell_height));
                    let place = [
                        ("x", x.as_str()),
                        ("y", &y),
                        ("width", &width),
                        ("height", &height),
                        ("fill-opacity", &opacity),
                    ];
                    markup.element("rect", &place, |_| {});
                });
            }
            if row_index == 0 || (row_index + 1).is_multiple_of(if self.rows.len() > 12 { 10 } else { 2 }) {
                let (x, y) = (coordinate(LEFT - 6.0), coordinate(y + 0.5 * cell_height + 4.0));
                markup.leaf(
                    "text",
                    &[("class", "end"), ("x", &x), ("y", &y)],
                    &(row_index + 1).to_string(),
                );
            }
        }
        let every = self.columns.div_ceil(12);
        for column in (0..self.columns).step_by(every) {
            let (x, y) = (
                coordinate(LEFT + cell_width * (column as f64 + 0.5)),
                coordinate(bottom + 16.0),
            );
            let class = (column * self.classes_per_column).to_string();
            markup.leaf("text", &[("class", "middle"), ("x", &x), ("y", &y)], &class);
        }
        let (x, y) = (
            coordinate(f64::midpoint(LEFT, WIDTH - RIGHT)),
            coordinate(bottom + FOOT - 4.0),
        );
        markup.leaf("text", &[("class", "middle"), ("x", &x), ("y", &y)], "class");
    }

    fn column_name(&self, column: usize) -> String {
        let first = column * self.classes_per_column;
        let last = (first + self.classes_per_column - 1).min(self.classes - 1);
        if first == last {
            format!("class {first}")
        } else {
            format!("classes {first} to {last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn drawn(labels: &Value, clients: Option<f64>) -> String {
        let mut markup = Markup::default();
        draw(&mut markup, field::list(labels, ""), clients, "Labels");
        markup.into_string()
    }

    #[test]
    fn each_cell_tells_its_count() {
        let html = drawn(&json!([[5, 0], [null, 2.0], "no row"]), Some(539.0));
        assert_eq!(html.matches("class=\"cell\"").count(), 4);
        assert!(
            html.contains("<title>client 1, class 0: 5 examples</title>"),
            "{html}"
        );
        assert!(
            html.contains("<title>client 2, class 0: 0 examples</title>"),
            "{html}"
        );
        assert!(html.contains("the first 2 of 539 clients"), "{html}");
    }

    #[test]
    fn many_classes_and_clients_are_bounded() {
        let html = drawn(&json!(vec![vec![1; 120]; 80]), None);
        assert_eq!(html.matches("class=\"cell\"").count(), 50 * 40);
        assert!(html.contains("<title>client 50, classes 117 to 119: 3 examples</title>"));
        assert!(html.contains("3 classes a column"));
    }

    #[test]
    fn no_rows_no_figure() {
        assert_eq!(drawn(&json!([]), None), "");
        assert_eq!(drawn(&json!([[], []]), None), "");
        assert!(!drawn(&json!([[0, 0]]), None).contains("NaN"));
    }
}
