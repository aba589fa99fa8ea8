//! Charts as SVG and PNG: stacked panels over one horizontal axis, with lines or bars, and no system font needed.

mod axis;

use std::fmt::Write;

use self::axis::Mapped;
pub use self::axis::{Axis, Scale, Unit};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 40.0;
const TOP: f64 = 106.0;
const PANEL: f64 = 250.0;
/// Between two panels: the heading and the legend of the lower one.
const GAP: f64 = 64.0;
const BOTTOM: f64 = 64.0;
const INK: &str = "#1f2937";
const FAINT: &str = "#6b7280";
const GRID: &str = "#e5e7eb";
/// Told apart by those who see few colours too (after Okabe and Ito).
const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666"];
/// Pixels of the PNG per unit of the SVG.
const ZOOM: f32 = 2.0;

/// A whole picture.
#[derive(Debug, Clone)]
pub struct Chart {
    pub title: String,
    /// One line of what was measured, where and when.
    pub subtitle: String,
    pub x: Axis,
    pub panels: Vec<Panel>,
}

/// One plot with a vertical axis of its own.
#[derive(Debug, Clone)]
pub struct Panel {
    pub heading: String,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Horizontal lines that are named: a limit, a budget.
    pub limits: Vec<(String, f64)>,
}

/// Points in the order of x; what is not finite is left out.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub shape: Shape,
    pub points: Vec<(f64, f64)>,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    Line,
    /// A line with a dot at each point: for few points.
    Dots,
    Bars,
}

/// Why no PNG was made.
#[derive(Debug, thiserror::Error)]
pub enum Undrawn {
    #[error("the SVG can't be read back: {0}")]
    Svg(#[from] resvg::usvg::Error),
    #[error("a picture of {0} x {1} pixels can't be made")]
    Size(u32, u32),
    #[error("the PNG can't be encoded: {0}")]
    Png(String),
}

impl Chart {
    /// The chart as an SVG document.
    pub fn to_svg(&self) -> String {
        let height = TOP + self.panels.len() as f64 * (PANEL + GAP) - GAP + BOTTOM;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
             font-family=\"Ubuntu, system-ui, sans-serif\" font-size=\"13\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
        );
        text(&mut svg, LEFT, 30.0, 20.0, INK, "start", &self.title);
        text(&mut svg, LEFT, 51.0, 13.0, FAINT, "start", &self.subtitle);
        let all = || self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
        let x = Mapped::new(&self.x, all().map(|point| point.0), (LEFT, WIDTH - RIGHT));
        for (position, panel) in self.panels.iter().enumerate() {
            let top = TOP + position as f64 * (PANEL + GAP);
            draw_panel(&mut svg, panel, &x, top, position + 1 == self.panels.len());
        }
        text(&mut svg, f64::midpoint(LEFT, WIDTH - RIGHT), height - 16.0, 13.0, INK, "middle", &self.x.label);
        svg.push_str("</svg>\n");
        svg
    }

    /// The chart as a PNG, two pixels per unit of the SVG.
    ///
    /// # Errors
    /// When the picture would be too large to hold.
    pub fn to_png(&self) -> Result<Vec<u8>, Undrawn> {
        let mut options = resvg::usvg::Options::default();
        let fonts = options.fontdb_mut();
        fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
        // The font's own name is "Ubuntu Light"; whatever a text asks for, this is what there is.
        let family = fonts.faces().next().and_then(|face| face.families.first()).map(|family| family.0.clone());
        let family = family.unwrap_or_default();
        fonts.set_sans_serif_family(&family);
        options.font_family = family;
        let tree = resvg::usvg::Tree::from_str(&self.to_svg(), &options)?;
        let size = tree.size().to_int_size().scale_by(ZOOM).ok_or(Undrawn::Size(0, 0))?;
        let mut pixels = resvg::tiny_skia::Pixmap::new(size.width(), size.height())
            .ok_or(Undrawn::Size(size.width(), size.height()))?;
        resvg::render(&tree, resvg::tiny_skia::Transform::from_scale(ZOOM, ZOOM), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| Undrawn::Png(error.to_string()))
    }
}

fn draw_panel(svg: &mut String, panel: &Panel, x: &Mapped, top: f64, last: bool) {
    let bottom = top + PANEL;
    let values = panel.series.iter().flat_map(|series| &series.points).map(|point| point.1);
    let y = Mapped::new(&panel.y, values.chain(panel.limits.iter().map(|limit| limit.1)), (bottom, top));
    draw_frame(svg, panel, (x, &y), top, last);
    let mut legend = WIDTH - RIGHT;
    for (position, series) in panel.series.iter().enumerate().rev() {
        let colour = COLOURS[position % COLOURS.len()];
        draw_series(svg, series, colour, x, &y, bottom);
        // Wide enough for the widest of the fonts; the gap behind the mark is the same in all.
        legend -= series.name.chars().count() as f64 * 7.0 + 18.0;
        text(svg, legend + 18.0, top - 12.0, 12.0, INK, "start", &series.name);
        let _ = writeln!(
            svg,
            "<rect x=\"{legend:.1}\" y=\"{:.1}\" width=\"12\" height=\"4\" rx=\"2\" fill=\"{colour}\"/>",
            top - 18.0
        );
        legend -= 18.0;
    }
}

/// Grid, marks, heading and limits.
fn draw_frame(svg: &mut String, panel: &Panel, (x, y): (&Mapped, &Mapped), top: f64, last: bool) {
    let bottom = top + PANEL;
    for (value, label) in y.ticks() {
        let at = y.at(value);
        line(svg, (LEFT, at), (WIDTH - RIGHT, at), GRID, "");
        text(svg, LEFT - 8.0, at + 4.5, 12.0, FAINT, "end", &label);
    }
    for (value, label) in x.ticks() {
        line(svg, (x.at(value), bottom), (x.at(value), bottom + 5.0), FAINT, "");
        if last {
            text(svg, x.at(value), bottom + 20.0, 12.0, FAINT, "middle", &label);
        }
    }
    line(svg, (LEFT, bottom), (WIDTH - RIGHT, bottom), FAINT, "");
    text(svg, LEFT, top - 12.0, 14.0, INK, "start", &format!("{} ({})", panel.heading, panel.y.label));
    for (name, value) in &panel.limits {
        line(svg, (LEFT, y.at(*value)), (WIDTH - RIGHT, y.at(*value)), "#b91c1c", "6 4");
        // Above the line, but below it where the heading is in the way.
        let beside = if y.at(*value) - top < 18.0 { 16.0 } else { -6.0 };
        text(svg, LEFT + 8.0, y.at(*value) + beside, 12.0, "#b91c1c", "start", name);
    }
}

fn draw_series(svg: &mut String, series: &Series, colour: &str, x: &Mapped, y: &Mapped, bottom: f64) {
    let points: Vec<(f64, f64)> = series
        .points
        .iter()
        .filter(|point| x.holds(point.0) && y.holds(point.1))
        .map(|point| (x.at(point.0), y.at(point.1)))
        .collect();
    if series.shape == Shape::Bars {
        let width = ((WIDTH - LEFT - RIGHT) / (points.len().max(1) as f64 * 1.6)).min(46.0);
        for (across, up) in points {
            let _ = writeln!(
                svg,
                "<rect x=\"{:.1}\" y=\"{up:.1}\" width=\"{width:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{colour}\" fill-opacity=\"0.85\"/>",
                across - width / 2.0,
                (bottom - up).max(0.0),
            );
        }
        return;
    }
    let mut path = String::new();
    for (across, up) in &points {
        let _ = write!(path, "{across:.1},{up:.1} ");
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-linejoin=\"round\"/>",
        path.trim_end()
    );
    if series.shape == Shape::Dots {
        for (across, up) in &points {
            let _ = writeln!(
                svg,
                "<circle cx=\"{across:.1}\" cy=\"{up:.1}\" r=\"4\" fill=\"#ffffff\" stroke=\"{colour}\" stroke-width=\"2\"/>"
            );
        }
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str, dashes: &str) {
    let dashes = if dashes.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dashes}\"") };
    let _ = writeln!(
        svg,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{colour}\"{dashes}/>",
        from.0, from.1, to.0, to.1
    );
}

fn text(svg: &mut String, x: f64, y: f64, size: f64, colour: &str, anchor: &str, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{colour}\" text-anchor=\"{anchor}\">{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        let series = |name: &str, shape| Series { name: name.into(), shape, points: points.clone() };
        let panel = |heading: &str, unit, scale, shape| Panel {
            heading: heading.into(),
            y: Axis { label: "unit".into(), unit, scale },
            series: vec![series("one <&>", shape), series("two", shape)],
            limits: vec![("limit".into(), 48e6)],
        };
        Chart {
            title: "Title".into(),
            subtitle: "where & when".into(),
            x: Axis { label: "clients".into(), unit: Unit::Count, scale: Scale::Linear },
            panels: vec![
                panel("memory", Unit::Bytes, Scale::Linear, Shape::Dots),
                panel("time", Unit::Seconds, Scale::Log, Shape::Bars),
            ],
        }
    }

    #[test]
    fn the_png_shows_ink_without_any_system_font() {
        let chart = chart(vec![(1e3, 2e7), (1e4, 3e7), (1e5, 4.5e7)]);
        let png = chart.to_png().expect("drawn");
        let picture = resvg::tiny_skia::Pixmap::decode_png(&png).expect("a PNG");
        let dark = picture
            .pixels()
            .iter()
            .filter(|pixel| pixel.red() < 100 && pixel.green() < 100 && pixel.blue() < 120)
            .count();
        assert!(dark > 500, "the title is drawn: {dark}");
        let mut wordless = chart;
        wordless.title.clear();
        let png = wordless.to_png().expect("drawn");
        let wordless = resvg::tiny_skia::Pixmap::decode_png(&png).expect("a PNG");
        assert_ne!(picture.data(), wordless.data(), "words make a difference, so there is a font");
    }

    #[test]
    fn names_are_escaped_and_empty_or_odd_points_do_no_harm() {
        assert!(chart(vec![(1.0, 1.0)]).to_svg().contains("one &lt;&amp;>"));
        for points in
            [vec![], vec![(0.0, 0.0)], vec![(1.0, f64::NAN), (f64::INFINITY, 2.0)], vec![(5.0, 5.0), (5.0, 5.0)]]
        {
            let svg = chart(points).to_svg();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
