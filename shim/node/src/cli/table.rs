//! Columns for people.

/// Rows under a heading, each column as wide as its widest cell.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Row>,
    columns: usize,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    Note(String),
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        let heading = headings.iter().map(ToString::to_string).collect();
        Self {
            rows: vec![Row::Cells(heading)],
            columns: headings.len(),
        }
    }

    /// Adds a row. An empty cell is shown as `-`.
    pub fn row(&mut self, cells: &[String]) {
        let shown = |cell: &String| {
            if cell.is_empty() {
                "-".to_owned()
            } else {
                cell.clone()
            }
        };
        self.rows
            .push(Row::Cells(cells.iter().map(shown).collect()));
    }

    /// Adds an indented line that belongs to the row above.
    pub fn note(&mut self, text: &str) {
        self.rows.push(Row::Note(text.to_owned()));
    }

    /// The text, with a newline after each row.
    pub fn render(&self) -> String {
        let mut widths = vec![0; self.columns];
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.chars().count());
                }
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let line = match row {
                Row::Note(note) => format!("    {note}"),
                Row::Cells(cells) => cells
                    .iter()
                    .zip(&widths)
                    .map(|(cell, width)| format!("{cell:width$}"))
                    .collect::<Vec<_>>()
                    .join("  "),
            };
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}
