//! Programs of hostcalls: what the bytes choose, and the run of it.

mod guest;
mod material;
mod table;

use std::collections::BTreeSet;
use std::sync::Arc;

use arbitrary::Unstructured;
use bytes::Bytes;
use tidegate_wasm::{Shared, Vm};

use self::guest::{DATA, STEP, STEPS};
use self::material::Material;
use self::table::{FUNCTIONS, Function};
use crate::{events, limits};

/// Which hostcalls a program is made of.
pub(crate) struct Choice {
    wanted: fn(&Function) -> bool,
}

/// Most steps of a program.
const MOST_STEPS: usize = 200;

impl Choice {
    /// Every one.
    pub(crate) const ALL: Self = Self { wanted: |_| true };
    /// Those that take or give a serialised map.
    pub(crate) const MAPS: Self = Self {
        wanted: |function| {
            function.roles.contains(['m', 'M']) || function.name.contains("header_map")
        },
    };
    /// Those about properties, and those that change what they read.
    pub(crate) const PROPERTIES: Self = Self {
        wanted: |function| {
            function.name.contains("property")
                || function.name.contains("foreign")
                || function.name.contains("effective_context")
                || function.name.contains("header_map_value")
        },
    };
}

/// Runs one case; which kinds of effects it led to.
pub(crate) fn run(bytes: &mut Unstructured<'_>, choice: &Choice) -> BTreeSet<&'static str> {
    let case = assemble(bytes, choice).unwrap_or_default();
    let module = guest::module(bytes.ratio(1_u8, 8_u8).unwrap_or(false));
    let shared = Shared::new();
    let vm = Vm::start(module, Arc::new(limits::vm_config()), shared.clone());
    let mut vm = vm.expect("the interpreting guest starts whatever its program");
    let plugin = Arc::new(limits::plugin(Bytes::from(case)));
    let reached = match vm.add_root(plugin.clone()) {
        Ok(root) => events::run(bytes, &mut vm, root, &plugin),
        Err(_) => BTreeSet::new(),
    };
    // Dropping it closes whatever the guest left open; what it shared is bounded by the namespace's caps.
    drop(vm);
    assert!(shared.bytes("shop") <= 65 << 20, "{}", shared.bytes("shop"));
    reached
}

/// The guest's configuration: a header, the steps, the data.
fn assemble(bytes: &mut Unstructured<'_>, choice: &Choice) -> arbitrary::Result<Vec<u8>> {
    let functions: Vec<(u32, &Function)> = (0..)
        .zip(FUNCTIONS)
        .filter(|(_, function)| (choice.wanted)(function))
        .collect();
    let material = Material::new(bytes)?;
    let allocator = if bytes.ratio(1_u8, 4_u8)? {
        bytes.int_in_range(0_u32..=7)?
    } else {
        0
    };
    let mut steps = Vec::new();
    let count = bytes.int_in_range(0..=MOST_STEPS)?;
    for _ in 0..count {
        let step = if bytes.ratio(1_u8, 8_u8)? {
            control(bytes)?
        } else {
            let (number, function) = bytes.choose(&functions)?;
            call(bytes, *number, function, &material)?
        };
        let from = steps.len();
        steps.extend(step.iter().flat_map(|word| word.to_le_bytes()));
        steps.resize(from + STEP, 0);
    }
    let end = u32::try_from(STEPS + steps.len()).expect("few steps");
    let mut case = [allocator.to_le_bytes(), end.to_le_bytes()].concat();
    case.resize(STEPS - guest::PROGRAM, 0);
    case.extend_from_slice(&steps);
    case.resize(DATA - guest::PROGRAM, 0);
    case.extend_from_slice(&material.data);
    Ok(case)
}

/// A step that is no hostcall: the callback returns, memory grows, or it traps.
fn control(bytes: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u32>> {
    Ok(match bytes.int_in_range(0..=40)? {
        0 => vec![guest::TRAP],
        1..=3 => vec![guest::GROW, bytes.int_in_range(0..=80)?],
        _ => vec![guest::RETURN, bytes.int_in_range(0..=5)?],
    })
}

fn call(
    bytes: &mut Unstructured<'_>,
    number: u32,
    function: &Function,
    material: &Material,
) -> arbitrary::Result<Vec<u32>> {
    let mut words = vec![guest::FIRST_CALL + number];
    let mut indirect = 0_u32;
    for role in function.roles.chars() {
        for (value, is_indirect) in material.argument(bytes, role)? {
            let value = match bytes.int_in_range(0..=19)? {
                0 => *bytes.choose(&[0, 1, u32::MAX, i32::MAX as u32, 0x7fff_fff0, 1 << 20])?,
                1 => bytes.arbitrary()?,
                _ => value,
            };
            indirect |= u32::from(is_indirect) << (words.len() - 1);
            words.push(value);
        }
    }
    words[0] |= indirect << 16;
    Ok(words)
}
