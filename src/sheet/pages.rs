//! What is done with finished pages: find the characters that no font could draw, and
//! make a picture for a chat group.

use std::collections::BTreeSet;

use image::codecs::jpeg::JpegEncoder;
use typst::layout::{Frame, FrameItem};
use typst_layout::Page;
use typst_render::RenderOptions;

/// Chat groups recompress what is larger, in bytes.
const MAX_JPEG: usize = 500_000;
/// Dots an inch of the picture, and of one that would be too large.
const DPI: [f64; 3] = [150.0, 120.0, 96.0];
const QUALITY: [u8; 4] = [88, 75, 60, 45];

/// Characters drawn as the sign for "no such character", in order.
pub(super) fn missing<'a>(pages: impl Iterator<Item = &'a Page>) -> Vec<char> {
    let mut found = BTreeSet::new();
    for page in pages {
        look(&page.frame, &mut found);
    }
    found.into_iter().collect()
}

fn look(frame: &Frame, found: &mut BTreeSet<char>) {
    for (_, item) in frame.items() {
        match item {
            FrameItem::Group(group) => look(&group.frame, found),
            FrameItem::Text(text) => {
                for glyph in text.glyphs.iter().filter(|g| g.id == 0) {
                    // A cluster counts whole: its first character is what people look for.
                    found.extend(text.text.get(glyph.range()).and_then(|t| t.chars().next()));
                }
            }
            _ => {}
        }
    }
}

/// The page as JPEG under 500 KB.
pub(super) fn jpeg(page: &Page) -> Result<Vec<u8>, String> {
    let mut smallest = Vec::new();
    for dpi in DPI {
        let options = RenderOptions { pixel_per_pt: (dpi / 72.0).into(), ..RenderOptions::default() };
        let picture = typst_render::render(page, &options);
        let rgb: Vec<u8> = picture.pixels().iter().flat_map(|p| [p.red(), p.green(), p.blue()]).collect();
        for quality in QUALITY {
            smallest.clear();
            JpegEncoder::new_with_quality(&mut smallest, quality)
                .encode(&rgb, picture.width(), picture.height(), image::ExtendedColorType::Rgb8)
                .map_err(|e| e.to_string())?;
            if smallest.len() <= MAX_JPEG {
                return Ok(smallest);
            }
        }
    }
    Ok(smallest)
}
