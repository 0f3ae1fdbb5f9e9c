//! What a report is made of, whatever was measured: sections of facts, figures and tables. Each kind of
//! result is converted into this, and the page and the Markdown are drawn from it alone.

/// All that one page shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// One a recorded run, in the order in which they were named.
    pub sections: Vec<Section>,
}

/// One recorded run.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// What was measured.
    pub title: String,
    /// The file it was read from.
    pub source: String,
    /// Machine, settings and versions, as name and value.
    pub facts: Vec<(String, String)>,
    /// What a reader could take wrongly.
    pub notes: Vec<String>,
    /// Charts, the most telling first.
    pub figures: Vec<Figure>,
    /// The medians.
    pub summary: Table,
    /// What else there is to look up.
    pub details: Vec<Table>,
}

/// A chart and what to call it.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// How to read its marks.
    pub note: String,
    /// The chart.
    pub drawing: Drawing,
}

/// A chart.
#[derive(Clone, Debug, PartialEq)]
pub enum Drawing {
    /// Points joined by lines.
    Lines(Lines),
    /// Values in rows.
    Bars(Bars),
}

/// Points joined by lines.
#[derive(Clone, Debug, PartialEq)]
pub struct Lines {
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// One line each.
    pub series: Vec<Series>,
}

/// One direction of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What is measured along it.
    pub title: String,
    /// How values become places.
    pub scale: Scale,
    /// How values are written.
    pub unit: Unit,
    /// Where to write something; none for round values.
    pub ticks: Vec<(f64, String)>,
}

/// How values become places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// Each decade is as long. What is not above 0 has no place.
    Log,
}

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number.
    Count,
    /// Nanoseconds, written in the unit that suits.
    Nanoseconds,
}

/// One line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What it is called in the legend.
    pub name: String,
    /// Place of its colour; the same thing has the same one in all figures of a section.
    pub colour: usize,
    /// From left to right.
    pub points: Vec<Point>,
}

/// One mark of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// To the right.
    pub x: f64,
    /// Upwards.
    pub y: f64,
    /// The ends of a line through the mark, where there is one.
    pub range: Option<(f64, f64)>,
    /// What is shown when the mark is pointed at.
    pub label: String,
}

/// Values in rows, each named above its bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bars {
    /// Along the bars. On a logarithmic one values are marks, as there is no 0 to start a bar from.
    pub axis: Axis,
    /// A value to hold the others against, drawn across all rows.
    pub reference: Option<f64>,
    /// Rows that belong together.
    pub groups: Vec<Group>,
}

/// Rows that belong together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// What they have in common.
    pub title: String,
    /// The rows.
    pub bars: Vec<Bar>,
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// What it belongs to.
    pub name: String,
    /// Place of its colour.
    pub colour: usize,
    /// Its length; none where nothing is known.
    pub value: Option<f64>,
    /// The ends of a line through its end, where there is one.
    pub range: Option<(f64, f64)>,
    /// The value in words.
    pub text: String,
}

/// A table.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// Heads of the columns.
    pub columns: Vec<Column>,
    /// Cells, as many a row as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// The head of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// What is in it.
    pub title: String,
    /// To which side its cells go.
    pub align: Align,
}

/// To which side the cells of a column go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

impl Figure {
    /// Puts one together.
    pub fn new(title: impl Into<String>, note: impl Into<String>, drawing: Drawing) -> Self {
        Self {
            title: title.into(),
            note: note.into(),
            drawing,
        }
    }
}

impl Axis {
    /// One with round values.
    pub fn new(title: impl Into<String>, scale: Scale, unit: Unit) -> Self {
        Self {
            title: title.into(),
            scale,
            unit,
            ticks: Vec::new(),
        }
    }
}

impl Column {
    /// A column of words.
    pub fn words(title: impl Into<String>) -> Self {
        let (title, align) = (title.into(), Align::Left);
        Self { title, align }
    }

    /// A column of numbers.
    pub fn numbers(title: impl Into<String>) -> Self {
        let (title, align) = (title.into(), Align::Right);
        Self { title, align }
    }
}
