//! A small bar chart as SVG.

use std::fmt::Write as _;

/// A group of bars with its label.
pub struct Group {
    /// Below the bars.
    pub label: String,
    /// One value for each series, in the unit of the chart.
    pub values: Vec<f64>,
}

const COLOURS: [&str; 4] = ["#2b6cb0", "#dd6b20", "#718096", "#38a169"];
/// Width of an entry of the legend.
const ENTRY: f64 = 150.0;
const HEIGHT: f64 = 220.0;
const BAR: f64 = 34.0;

/// Bars in groups, with values written on them.
pub fn bars(title: &str, unit: &str, series: &[&str], groups: &[Group]) -> String {
    let top = groups
        .iter()
        .flat_map(|group| &group.values)
        .copied()
        .fold(1e-9, f64::max);
    let step = BAR * series.len() as f64 + 50.0;
    let width = (step * groups.len() as f64 + 60.0)
        .max(ENTRY * series.len() as f64 + 40.0)
        .max(420.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"320\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"20\" y=\"22\" font-size=\"15\">{title} ({unit})</text>\n"
    );
    for (index, name) in series.iter().enumerate() {
        let x = 20.0 + ENTRY * index as f64;
        let colour = COLOURS[index % COLOURS.len()];
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"32\" width=\"10\" height=\"10\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"41\">{name}</text>",
            x + 15.0
        );
    }
    for (place, group) in groups.iter().enumerate() {
        let left = 40.0 + step * place as f64;
        for (index, value) in group.values.iter().enumerate() {
            let (x, height) = (left + BAR * index as f64, HEIGHT * value / top);
            let y = 290.0 - height;
            let colour = COLOURS[index % COLOURS.len()];
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"{}\" height=\"{height:.1}\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"10\">{value:.0}</text>",
                BAR - 4.0,
                x + BAR / 2.0 - 2.0,
                y - 3.0
            );
        }
        let _ = writeln!(svg, "<text x=\"{left}\" y=\"308\">{}</text>", group.label);
    }
    svg.push_str("</svg>\n");
    svg
}
