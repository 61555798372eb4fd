//! What is checked of a template before it may render.

use std::collections::BTreeSet;

use handlebars::template::{BlockParam, DecoratorTemplate, HelperTemplate, Parameter, TemplateElement};
use handlebars::{Path, PathSeg, Template};

use super::{At, Engine, MAX_BYTES, MAX_DEPTH, RenderError};

/// Most block tags of a template, and most brackets between two tags: the parser
/// itself recurses on both, before there is a tree to measure.
const MAX_OPENINGS: usize = 200;
/// Most elements visited, partials counted each time they are included.
const MAX_VISITS: usize = 10_000;

/// Parses `source` once its size and its openings are known to be bounded.
pub(super) fn parse(name: &str, source: &str) -> Result<Template, RenderError> {
    if source.len() > MAX_BYTES || openings(source) > MAX_OPENINGS || brackets(source) > MAX_OPENINGS {
        return Err(RenderError::TooLarge { name: name.to_owned(), bytes: source.len() });
    }
    Template::compile_with_name(source, name.to_owned()).map_err(|error| {
        let (line, column) = error.pos().unwrap_or((1, 1));
        RenderError::Syntax { at: At { name: name.to_owned(), line, column }, why: error.reason().to_string() }
    })
}

/// Counts what may nest. Closing tags are not subtracted: one inside a comment
/// would hide a real opening.
fn openings(source: &str) -> usize {
    source
        .split("{{")
        .skip(1)
        .filter(|tag| {
            let tag = tag.trim_start_matches(['{', '~', ' ', '\t', '\r', '\n']);
            tag.starts_with(['#', '^']) || tag.starts_with("else")
        })
        .count()
}

fn brackets(source: &str) -> usize {
    source.split("{{").map(|tag| tag.matches(['(', '[', '{']).count()).max().unwrap_or(0)
}

/// Whether a name calls a helper of this engine.
pub(super) fn is_helper(engine: &Engine, name: &str) -> bool {
    super::helpers::BUILT_IN.contains(&name) || super::helpers::is_ours(name) || (name == "now" && engine.timed)
}

/// Where a template begins.
pub(super) fn start(template: &Template) -> At {
    At { name: template.name.clone().unwrap_or_default(), line: 1, column: 1 }
}

/// The dotted paths `template` and its partials read; fails on the first name,
/// helper or partial that is not known.
pub(super) fn variables(
    engine: &Engine,
    template: &Template,
    known: &dyn Fn(&str) -> bool,
) -> Result<BTreeSet<String>, RenderError> {
    let mut walk = Walk {
        engine,
        known,
        found: BTreeSet::new(),
        scopes: vec![Scope { base: Some(String::new()), locals: Vec::new() }],
        at: start(template),
        visits: 0,
    };
    walk.template(template, 0)?;
    Ok(walk.found)
}

/// What `this` means, and which names a block binds.
struct Scope {
    /// The path of `this`; `None` for an element of a list, whose fields are not known by name.
    base: Option<String>,
    locals: Vec<String>,
}

struct Walk<'a> {
    engine: &'a Engine,
    known: &'a dyn Fn(&str) -> bool,
    found: BTreeSet<String>,
    scopes: Vec<Scope>,
    at: At,
    visits: usize,
}

impl Walk<'_> {
    fn template(&mut self, template: &Template, depth: usize) -> Result<(), RenderError> {
        if depth > MAX_DEPTH {
            return Err(RenderError::TooDeep { at: self.at.clone() });
        }
        let outer = self.at.clone();
        if let Some(name) = &template.name {
            self.at.name.clone_from(name);
        }
        for (index, element) in template.elements.iter().enumerate() {
            if let Some(place) = template.mapping.get(index) {
                (self.at.line, self.at.column) = (place.0, place.1);
            }
            self.visits += 1;
            if self.visits > MAX_VISITS {
                return Err(RenderError::TooDeep { at: self.at.clone() });
            }
            self.element(element, depth)?;
        }
        self.at = outer;
        Ok(())
    }

    fn element(&mut self, element: &TemplateElement, depth: usize) -> Result<(), RenderError> {
        use TemplateElement as E;
        match element {
            E::RawString(_) | E::Comment(_) => Ok(()),
            E::Expression(tag) | E::HtmlExpression(tag) => self.expression(tag),
            E::HelperBlock(tag) => self.block(tag, depth),
            E::PartialExpression(tag) => self.partial(tag, depth),
            E::PartialBlock(_) => self.unsupported("{{#> }}"),
            _ => self.unsupported("{{* }}"),
        }
    }

    fn unsupported(&self, what: &'static str) -> Result<(), RenderError> {
        Err(RenderError::Unsupported { at: self.at.clone(), what })
    }

    fn expression(&mut self, tag: &HelperTemplate) -> Result<(), RenderError> {
        let bare = tag.params.is_empty() && tag.hash.is_empty();
        if bare && name_of(&tag.name).is_none_or(|name| !self.has_helper(&name)) {
            return self.parameter(&tag.name);
        }
        self.call(tag)
    }

    fn call(&mut self, tag: &HelperTemplate) -> Result<(), RenderError> {
        let helper = name_of(&tag.name).unwrap_or_default();
        if !self.has_helper(&helper) {
            return Err(RenderError::Helper { at: self.at.clone(), helper });
        }
        tag.params.iter().chain(tag.hash.values()).try_for_each(|p| self.parameter(p))
    }

    fn has_helper(&self, name: &str) -> bool {
        is_helper(self.engine, name)
    }

    fn parameter(&mut self, parameter: &Parameter) -> Result<(), RenderError> {
        match parameter {
            Parameter::Literal(_) => Ok(()),
            Parameter::Name(name) => self.path(&Path::parse(name).map_err(|e| super::explain(&self.at.name, &e))?),
            Parameter::Path(path) => self.path(path),
            Parameter::Subexpression(inner) => match inner.as_element() {
                TemplateElement::Expression(tag) => self.expression(tag),
                _ => Ok(()),
            },
            _ => self.unsupported("( )"),
        }
    }

    fn path(&mut self, path: &Path) -> Result<(), RenderError> {
        if let Some(variable) = self.resolve(path) {
            if !(self.known)(&variable) {
                return Err(RenderError::Unknown { at: self.at.clone(), variable });
            }
            self.found.insert(variable);
        }
        Ok(())
    }

    /// The path from the root, unless it names a local, or something inside a list.
    fn resolve(&self, path: &Path) -> Option<String> {
        let Path::Relative((segments, raw)) = path else { return None };
        let names: Vec<&str> = segments
            .iter()
            .filter_map(|s| match s {
                PathSeg::Named(name) => Some(name.trim_start_matches('[').trim_end_matches(']')),
                _ => None,
            })
            .collect();
        let up = raw.matches("../").count();
        let depth = self.scopes.len().saturating_sub(1 + up);
        if up == 0 && names.first().is_some_and(|n| self.scopes.iter().any(|s| s.locals.iter().any(|l| l == n))) {
            return None;
        }
        let base = if raw.starts_with("@root") { "" } else { self.scopes.get(depth)?.base.as_deref()? };
        let mut full: Vec<&str> = Vec::with_capacity(names.len() + 1);
        full.extend((!base.is_empty()).then_some(base));
        full.extend(names);
        (!full.is_empty()).then(|| full.join("."))
    }

    fn block(&mut self, tag: &HelperTemplate, depth: usize) -> Result<(), RenderError> {
        self.call(tag)?;
        let helper = name_of(&tag.name).unwrap_or_default();
        let scope = match helper.as_str() {
            "if" | "unless" => None,
            "each" => Some(Scope { base: None, locals: locals(tag) }),
            "with" => {
                let base = tag.params.first().and_then(|p| match p {
                    Parameter::Path(path) => self.resolve(path),
                    _ => None,
                });
                Some(Scope { base, locals: locals(tag) })
            }
            _ => return self.unsupported("{{# }}"),
        };
        let scoped = scope.is_some();
        self.scopes.extend(scope);
        if let Some(inner) = &tag.template {
            self.template(inner, depth + 1)?;
        }
        if scoped {
            self.scopes.pop();
        }
        // `else if` nests in the tree as deep as it recurses when it renders.
        tag.inverse.as_ref().map_or(Ok(()), |inner| self.template(inner, depth + 1))
    }

    fn partial(&mut self, tag: &DecoratorTemplate, depth: usize) -> Result<(), RenderError> {
        let Some(name) = name_of(&tag.name) else { return self.unsupported("{{> (…) }}") };
        if !tag.params.is_empty() || !tag.hash.is_empty() {
            return self.unsupported("{{> name … }}");
        }
        let engine = self.engine;
        let inner = engine
            .registry
            .get_template(&name)
            .ok_or_else(|| RenderError::Partial { at: self.at.clone(), partial: name.clone() })?;
        self.template(inner, depth + 1)
    }
}

fn locals(tag: &HelperTemplate) -> Vec<String> {
    match &tag.block_param {
        Some(BlockParam::Single(one)) => name_of(one).into_iter().collect(),
        Some(BlockParam::Pair((one, two))) => name_of(one).into_iter().chain(name_of(two)).collect(),
        _ => Vec::new(),
    }
}

fn name_of(parameter: &Parameter) -> Option<String> {
    match parameter {
        Parameter::Name(name) => Some(name.clone()),
        Parameter::Path(Path::Relative((_, raw)) | Path::Local((_, _, raw))) => Some(raw.clone()),
        _ => None,
    }
}
