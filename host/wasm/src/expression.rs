//! Expressions in CEL over the attributes of an exchange: `expr_create`, `expr_evaluate`, `expr_delete`.
//!
//! Variables are the attributes of `proxy_get_property`: `request.path`, `request.headers["x-team"]`, `source.port`. An expression runs
//! in the host, where no deadline stops it, so its cost is bounded when it is made: by length and depth, loops not nested, and nothing
//! joined inside of a loop.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr};
use cel::objects::Key;
use cel::{Context, Program, Value};

use crate::contexts::IdMap;
use crate::pairs;
use crate::status::Status;

/// Longest source, in bytes.
const MAX_SOURCE: usize = 2048;
/// Expressions that one plugin may have.
const MAX_EXPRESSIONS: usize = 200;
/// Deepest nesting of brackets: the parser takes stack for each.
const MAX_BRACKETS: usize = 16;
/// Most operators, dots and brackets.
const MAX_OPERATORS: usize = 200;
/// Most joins of strings, lists or numbers.
const MAX_JOINS: usize = 32;
/// Largest serialised result.
const MAX_RESULT: usize = 1 << 20;
/// Deepest nesting of a result.
const MAX_DEPTH: usize = 8;

/// The expressions of one plugin.
#[derive(Clone, Default)]
pub(crate) struct Expressions {
    by_token: IdMap<Arc<Expression>>,
    next: u32,
}

/// One that compiled.
pub(crate) struct Expression {
    program: Program,
    /// Attributes that it may read: segments.
    paths: BTreeSet<Vec<String>>,
}

/// What an attribute is to an expression.
#[derive(Debug)]
pub(crate) enum Attribute {
    Value(Value),
    /// It has fields, but no value: these are their names.
    Fields(&'static [&'static str]),
    Absent,
}

// === impl Expressions ===

impl Expressions {
    /// A token for a new one; the error says what is wrong with the source.
    pub(crate) fn create(&mut self, source: &str) -> Result<u32, String> {
        if self.by_token.len() >= MAX_EXPRESSIONS {
            return Err(format!("there are {MAX_EXPRESSIONS} expressions already"));
        }
        let expression = Arc::new(Expression::compile(source)?);
        while self.by_token.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let token = self.next;
        self.next = self.next.wrapping_add(1);
        self.by_token.insert(token, expression);
        Ok(token)
    }

    pub(crate) fn get(&self, token: u32) -> Option<&Expression> {
        self.by_token.get(&token).map(AsRef::as_ref)
    }

    pub(crate) fn delete(&mut self, token: u32) {
        self.by_token.remove(&token);
    }
}

// === impl Expression ===

impl Expression {
    fn compile(source: &str) -> Result<Self, String> {
        check_source(source)?;
        // A parser that panics must not take the worker along.
        let program = catch_unwind(|| Program::compile(source))
            .map_err(|_| "the parser failed".to_owned())?
            .map_err(|error| error.to_string())?;
        let mut walk = Walk::default();
        walk.expression(program.expression())?;
        Ok(Self {
            paths: walk.paths,
            program,
        })
    }

    /// Its value, serialised as a property's. `attribute` looks one up by its segments.
    pub(crate) fn evaluate(
        &self,
        attribute: impl Fn(&[&str]) -> Attribute,
    ) -> Result<Vec<u8>, Status> {
        let mut context = Context::default();
        for path in &self.paths {
            let segments: Vec<&str> = path.iter().map(String::as_str).collect();
            bind(&mut context, &segments, &attribute);
        }
        let value = catch_unwind(AssertUnwindSafe(|| self.program.execute(&context)))
            .map_err(|_| Status::InternalFailure)?
            .map_err(|_| Status::InternalFailure)?;
        let mut out = Vec::new();
        serialise(&value, MAX_DEPTH, &mut out)?;
        Ok(out)
    }
}

/// Binds the shortest beginning of a path that has a value, under its dotted name; an object that is used as a whole becomes
/// a map of its fields.
fn bind(
    context: &mut Context<'_, '_>,
    segments: &[&str],
    attribute: &impl Fn(&[&str]) -> Attribute,
) {
    for len in 1..=segments.len() {
        match attribute(&segments[..len]) {
            Attribute::Value(value) => {
                context.add_variable_from_value(segments[..len].join("."), value);
                return;
            }
            Attribute::Fields(names) if len == segments.len() => {
                let fields: HashMap<Key, Value> = names
                    .iter()
                    .filter_map(|name| {
                        let path = [segments, &[name]].concat();
                        match attribute(&path) {
                            Attribute::Value(value) => Some(((*name).into(), value)),
                            _ => None,
                        }
                    })
                    .collect();
                context.add_variable_from_value(segments.join("."), fields);
            }
            Attribute::Fields(_) => {}
            Attribute::Absent => return,
        }
    }
}

/// What the source may be, before a parser sees it: a recursive one takes stack for each bracket.
fn check_source(source: &str) -> Result<(), String> {
    if source.len() > MAX_SOURCE {
        return Err(format!("it is longer than {MAX_SOURCE} bytes"));
    }
    let (mut depth, mut operators) = (0_usize, 0_usize);
    // Inside of strings too, which is stricter than need be.
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'.' | b'!' | b'-' | b'+' | b'*' | b'/' | b'%' | b'?' | b'&' | b'|' | b'<' | b'>'
            | b'=' => {}
            _ => continue,
        }
        operators += 1;
        if depth > MAX_BRACKETS || operators > MAX_OPERATORS {
            return Err("it is too deep or has too many operators".to_owned());
        }
    }
    Ok(())
}

/// Looks at all parts of an expression.
#[derive(Default)]
struct Walk {
    paths: BTreeSet<Vec<String>>,
    joins: usize,
    in_loop: bool,
}

impl Walk {
    fn expression(&mut self, expression: &IdedExpr) -> Result<(), String> {
        match &expression.expr {
            Expr::Ident(name) => {
                self.paths.insert(vec![name.clone()]);
                Ok(())
            }
            Expr::Select(select) => {
                let mut path = Vec::new();
                // `has(a.b)` asks `a`.
                if !select.test {
                    path.push(select.field.clone());
                }
                self.select(&select.operand, path)
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) => list
                .elements
                .iter()
                .try_for_each(|part| self.expression(part)),
            Expr::Map(map) => map
                .entries
                .iter()
                .try_for_each(|entry| self.entry(&entry.expr)),
            Expr::Struct(_) => Err("there are no messages here".to_owned()),
            Expr::Literal(_) | Expr::Unspecified => Ok(()),
        }
    }

    /// A chain of fields, the last of them first in `path`.
    fn select(&mut self, operand: &IdedExpr, mut path: Vec<String>) -> Result<(), String> {
        match &operand.expr {
            Expr::Ident(name) => {
                path.push(name.clone());
                path.reverse();
                self.paths.insert(path);
                Ok(())
            }
            Expr::Select(select) if !select.test => {
                path.push(select.field.clone());
                self.select(&select.operand, path)
            }
            _ => self.expression(operand),
        }
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), String> {
        match entry {
            EntryExpr::MapEntry(entry) => {
                self.expression(&entry.key)?;
                self.expression(&entry.value)
            }
            EntryExpr::StructField(field) => self.expression(&field.value),
        }
    }

    fn call(&mut self, call: &CallExpr) -> Result<(), String> {
        if call.func_name == "_+_" {
            self.joins += 1;
            // Macros themselves append to the list that they build.
            let appends = matches!(
                call.args.as_slice(),
                [
                    _,
                    IdedExpr {
                        expr: Expr::List(_),
                        ..
                    }
                ]
            );
            if self.joins > MAX_JOINS || (self.in_loop && !appends) {
                return Err("it joins too much, or inside of a loop".to_owned());
            }
        }
        call.target
            .iter()
            .map(AsRef::as_ref)
            .chain(&call.args)
            .try_for_each(|part| self.expression(part))
    }

    fn comprehension(&mut self, comprehension: &ComprehensionExpr) -> Result<(), String> {
        if self.in_loop {
            return Err("its loops are nested".to_owned());
        }
        self.expression(&comprehension.iter_range)?;
        self.expression(&comprehension.accu_init)?;
        self.in_loop = true;
        let inner = [
            &comprehension.loop_cond,
            &comprehension.loop_step,
            &comprehension.result,
        ]
        .into_iter()
        .try_for_each(|part| self.expression(part));
        self.in_loop = false;
        inner
    }
}

fn serialise(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Status> {
    if depth == 0 {
        return Err(Status::SerializationFailure);
    }
    match value {
        Value::String(text) => out.extend_from_slice(text.as_bytes()),
        Value::Bytes(bytes) => out.extend_from_slice(bytes),
        Value::Int(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::UInt(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Float(number) => out.extend_from_slice(&number.to_le_bytes()),
        Value::Bool(flag) => out.push(u8::from(*flag)),
        Value::Duration(span) => {
            let nanoseconds = span.num_nanoseconds().unwrap_or(i64::MAX);
            out.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        Value::Timestamp(time) => {
            let nanoseconds = time.timestamp_nanos_opt().unwrap_or(i64::MAX);
            out.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        Value::Map(map) => {
            let mut entries = Vec::with_capacity(map.map.len());
            for (key, value) in map.map.iter() {
                let mut bytes = Vec::new();
                serialise(value, depth - 1, &mut bytes)?;
                entries.push((key_bytes(key), bytes));
            }
            // The map has no order of its own.
            entries.sort_unstable();
            put_pairs(&entries, out);
        }
        Value::List(list) => {
            let mut entries = Vec::with_capacity(list.len());
            for value in list.iter() {
                let mut bytes = Vec::new();
                serialise(value, depth - 1, &mut bytes)?;
                entries.push((bytes, Vec::new()));
            }
            put_pairs(&entries, out);
        }
        _ => return Err(Status::SerializationFailure),
    }
    if out.len() > MAX_RESULT {
        return Err(Status::SerializationFailure);
    }
    Ok(())
}

fn key_bytes(key: &Key) -> Vec<u8> {
    match key {
        Key::Int(number) => number.to_le_bytes().to_vec(),
        Key::Uint(number) => number.to_le_bytes().to_vec(),
        Key::Bool(flag) => vec![u8::from(*flag)],
        Key::String(text) => text.as_bytes().to_vec(),
    }
}

fn put_pairs(entries: &[(Vec<u8>, Vec<u8>)], out: &mut Vec<u8>) {
    let borrowed = || {
        entries
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    };
    let start = out.len();
    out.resize(start + pairs::encoded_len(borrowed()), 0);
    pairs::encode(borrowed(), entries.len(), &mut out[start..]);
}

#[cfg(test)]
mod tests;
