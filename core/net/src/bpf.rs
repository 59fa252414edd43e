//! Classic BPF: the instruction, a small assembler and an interpreter.
//!
//! The kernel runs these programs on each packet; the interpreter runs the same program on bytes
//! in user space, for packets that come from elsewhere and for tests.

use std::collections::BTreeSet;

/// The most instructions the kernel takes in one program (`BPF_MAXINSNS`).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// One instruction, laid out as the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation, operand size and addressing mode.
    pub code: u16,
    /// Instructions skipped when a condition holds.
    pub jump_true: u8,
    /// Instructions skipped when it does not.
    pub jump_false: u8,
    /// The constant operand.
    pub k: u32,
}

impl Instruction {
    /// An instruction that is no conditional jump.
    #[must_use]
    pub const fn new(code: u16, k: u32) -> Self {
        Self {
            code,
            jump_true: 0,
            jump_false: 0,
            k,
        }
    }
}

/// Operation codes by their usual assembler names; the suffix says the operand.
pub mod op {
    /// A = 32-bit word at k.
    pub const LD_W_ABS: u16 = 0x20;
    /// A = 16-bit word at k.
    pub const LD_H_ABS: u16 = 0x28;
    /// A = byte at k.
    pub const LD_B_ABS: u16 = 0x30;
    /// A = 32-bit word at X + k.
    pub const LD_W_IND: u16 = 0x40;
    /// A = 16-bit word at X + k.
    pub const LD_H_IND: u16 = 0x48;
    /// A = byte at X + k.
    pub const LD_B_IND: u16 = 0x50;
    /// A = packet length.
    pub const LD_LEN: u16 = 0x80;
    /// A = k.
    pub const LD_IMM: u16 = 0x00;
    /// A = M\[k\].
    pub const LD_MEM: u16 = 0x60;
    /// X = k.
    pub const LDX_IMM: u16 = 0x01;
    /// X = M\[k\].
    pub const LDX_MEM: u16 = 0x61;
    /// X = packet length.
    pub const LDX_LEN: u16 = 0x81;
    /// X = 4 * (byte at k & 15): the length of an IPv4 header.
    pub const LDX_MSH: u16 = 0xb1;
    /// M\[k\] = A.
    pub const ST: u16 = 0x02;
    /// M\[k\] = X.
    pub const STX: u16 = 0x03;
    /// A *= k.
    pub const MUL_K: u16 = 0x24;
    /// A &= k.
    pub const AND_K: u16 = 0x54;
    /// A >>= k.
    pub const RSH_K: u16 = 0x74;
    /// A <<= k.
    pub const LSH_K: u16 = 0x64;
    /// A %= k.
    pub const MOD_K: u16 = 0x94;
    /// A ^= X.
    pub const XOR_X: u16 = 0xac;
    /// Jump over k instructions.
    pub const JA: u16 = 0x05;
    /// Compare A == k.
    pub const JEQ_K: u16 = 0x15;
    /// Compare A > k.
    pub const JGT_K: u16 = 0x25;
    /// Compare A >= k.
    pub const JGE_K: u16 = 0x35;
    /// Test A & k.
    pub const JSET_K: u16 = 0x45;
    /// Return k.
    pub const RET_K: u16 = 0x06;
    /// Return A.
    pub const RET_A: u16 = 0x16;
    /// X = A.
    pub const TAX: u16 = 0x07;
    /// A = X.
    pub const TXA: u16 = 0x87;
}

/// A place in a program that is not finished.
#[derive(Clone, Copy)]
pub(crate) struct Label(usize);

/// Writes a program whose jumps go to labels, at any distance: a conditional jump reaches only 255
/// instructions, so each one is followed by an unconditional one that reaches all.
#[derive(Default)]
pub(crate) struct Assembler {
    program: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A label to be bound later.
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Makes a label mean the next instruction.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.program.len());
    }

    /// Appends an instruction that is no jump.
    pub(crate) fn push(&mut self, code: u16, k: u32) {
        self.program.push(Instruction::new(code, k));
    }

    /// Jumps to the label.
    pub(crate) fn jump(&mut self, label: Label) {
        self.jumps.push((self.program.len(), label));
        self.push(op::JA, 0);
    }

    /// Jumps to the label when the condition holds, else goes on.
    pub(crate) fn jump_if(&mut self, code: u16, k: u32, label: Label) {
        self.program.push(Instruction {
            code,
            jump_true: 0,
            jump_false: 1,
            k,
        });
        self.jump(label);
    }

    /// Jumps to the label when the condition does not hold, else goes on.
    pub(crate) fn jump_unless(&mut self, code: u16, k: u32, label: Label) {
        self.program.push(Instruction {
            code,
            jump_true: 1,
            jump_false: 0,
            k,
        });
        self.jump(label);
    }

    /// Appends a program that was written elsewhere.
    pub(crate) fn append(&mut self, program: &[Instruction]) {
        self.program.extend(program);
    }

    /// Jumps to `hit` if A is in one of the ranges, else to `miss`: a binary search. The ranges
    /// are pairs of first and last, in rising order and apart.
    pub(crate) fn find_range(&mut self, ranges: &[(u16, u16)], hit: Label, miss: Label) {
        /// Up to this many are compared one after the other; it must keep the jumps short.
        const LEAF_RANGES: usize = 16;
        if ranges.len() > LEAF_RANGES {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let above = self.label();
            self.jump_if(op::JGE_K, u32::from(upper[0].0), above);
            self.find_range(lower, hit, miss);
            self.bind(above);
            return self.find_range(upper, hit, miss);
        }
        // Behind the comparisons stand two jumps, the first for a miss, the second for a hit.
        let mut comparisons = Vec::new();
        for (first, last) in ranges {
            if first == last {
                comparisons.push((op::JEQ_K, *first));
            } else {
                comparisons.extend([(op::JGE_K, *first), (op::JGT_K, *last)]);
            }
        }
        for (at, (code, k)) in comparisons.iter().enumerate() {
            let to_hit = u8::try_from(comparisons.len() - at).expect("a leaf is short");
            let (jump_true, jump_false) = match *code {
                op::JEQ_K => (to_hit, 0),
                op::JGE_K => (0, 1),
                _ => (0, to_hit),
            };
            self.program.push(Instruction {
                code: *code,
                jump_true,
                jump_false,
                k: u32::from(*k),
            });
        }
        self.jump(miss);
        self.jump(hit);
    }

    /// Jumps to the label that A's value has, or to `miss` if it has none: a binary search. The
    /// values are in rising order and different.
    pub(crate) fn find_value(&mut self, values: &[(u32, Label)], miss: Label) {
        /// Up to this many are compared one after the other.
        const LEAF_VALUES: usize = 4;
        if values.len() > LEAF_VALUES {
            let (lower, upper) = values.split_at(values.len() / 2);
            let above = self.label();
            self.jump_if(op::JGE_K, upper[0].0, above);
            self.find_value(lower, miss);
            self.bind(above);
            return self.find_value(upper, miss);
        }
        for (value, label) in values {
            self.jump_if(op::JEQ_K, *value, *label);
        }
        self.jump(miss);
    }

    /// The finished program.
    pub(crate) fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("every label is bound before the end");
            let distance = target.checked_sub(at + 1).expect("jumps only go forward");
            self.program[at].k = u32::try_from(distance).expect("programs are short");
        }
        self.program
    }
}

/// The ports as rising ranges that neither touch nor overlap, for [`Assembler::find_range`].
pub(crate) fn port_ranges(ports: impl IntoIterator<Item = u16>) -> Vec<(u16, u16)> {
    let ports: BTreeSet<u16> = ports.into_iter().collect();
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for port in ports {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == port => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    ranges
}

/// Runs a program on a packet and returns its verdict: 0 refuses the packet.
///
/// As in the kernel, a load from outside the packet and a division by zero return 0. The kernel's
/// ancillary loads (negative offsets) are outside the packet too.
#[must_use]
pub fn run(program: &[Instruction], packet: &[u8]) -> u32 {
    execute(program, packet).unwrap_or(0)
}

fn execute(program: &[Instruction], packet: &[u8]) -> Option<u32> {
    let (mut a, mut x) = (0_u32, 0_u32);
    let mut memory = [0_u32; 16];
    let mut next = 0_usize;
    loop {
        let Instruction {
            code,
            jump_true,
            jump_false,
            k,
        } = *program.get(next)?;
        next += 1;
        let operand = if code & 0x08 == 0 { k } else { x };
        match code & 0x07 {
            0 => a = load(code, k, x, packet, &memory)?,
            1 => x = load(code, k, x, packet, &memory)?,
            2 => *memory.get_mut(k as usize)? = a,
            3 => *memory.get_mut(k as usize)? = x,
            4 => a = compute(code, a, operand)?,
            5 => {
                let skip = match code & 0xf0 {
                    0x00 => k,
                    0x10 => u32::from(if a == operand { jump_true } else { jump_false }),
                    0x20 => u32::from(if a > operand { jump_true } else { jump_false }),
                    0x30 => u32::from(if a >= operand { jump_true } else { jump_false }),
                    0x40 => u32::from(if a & operand != 0 {
                        jump_true
                    } else {
                        jump_false
                    }),
                    _ => return None,
                };
                next = next.checked_add(skip as usize)?;
            }
            6 => return Some(if code & 0x18 == 0x10 { a } else { k }),
            _ if code & 0xf8 == 0 => x = a,
            _ => a = x,
        }
    }
}

/// The value of a load into A or X.
fn load(code: u16, k: u32, x: u32, packet: &[u8], memory: &[u32; 16]) -> Option<u32> {
    let size = match code & 0x18 {
        0x00 => 4,
        0x08 => 2,
        _ => 1,
    };
    match code & 0xe0 {
        0x00 => Some(k),
        0x20 => big_endian(packet, k, size),
        0x40 => big_endian(packet, x.wrapping_add(k), size),
        0x60 => memory.get(k as usize).copied(),
        0x80 => u32::try_from(packet.len()).ok(),
        0xa0 => Some(4 * (big_endian(packet, k, 1)? & 0x0f)),
        _ => None,
    }
}

fn big_endian(packet: &[u8], offset: u32, size: usize) -> Option<u32> {
    let start = offset as usize;
    let bytes = packet.get(start..start.checked_add(size)?)?;
    Some(
        bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)),
    )
}

/// The result of an arithmetic operation on A.
fn compute(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand)?,
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.checked_shl(operand).unwrap_or(0),
        0x70 => a.checked_shr(operand).unwrap_or(0),
        0x80 => a.wrapping_neg(),
        0x90 => a.checked_rem(operand)?,
        0xa0 => a ^ operand,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_outside_the_packet_refuse_it() {
        let program = [
            Instruction::new(op::LD_W_ABS, 1),
            Instruction::new(op::RET_K, 9),
        ];
        assert_eq!(run(&program, &[0; 5]), 9);
        assert_eq!(run(&program, &[0; 4]), 0);
    }

    #[test]
    fn a_program_without_return_refuses() {
        assert_eq!(run(&[Instruction::new(op::JA, u32::MAX)], &[]), 0);
        assert_eq!(run(&[], &[]), 0);
    }

    #[test]
    fn searches_find_what_is_there_and_nothing_else() {
        let ports = (0..3000_u16).filter(|port| port % 7 < 3 || port % 11 == 0);
        let ranges = port_ranges(ports.clone().chain([65535]));
        for count in [0, 1, 2, 16, 17, 100, ranges.len()] {
            let ranges = &ranges[ranges.len() - count..];
            let mut assembler = Assembler::default();
            let (hit, miss) = (assembler.label(), assembler.label());
            assembler.push(op::LD_H_ABS, 0);
            assembler.find_range(ranges, hit, miss);
            assembler.bind(hit);
            assembler.push(op::RET_K, 1);
            assembler.bind(miss);
            assembler.push(op::RET_K, 2);
            let program = assembler.finish();
            for port in (0..3010_u16).chain([65534, 65535]) {
                let found = ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&port));
                let verdict = if found { 1 } else { 2 };
                assert_eq!(
                    run(&program, &port.to_be_bytes()),
                    verdict,
                    "{port} of {count}"
                );
            }
        }
    }

    #[test]
    fn jumps_reach_any_distance() {
        let mut assembler = Assembler::default();
        let far = assembler.label();
        assembler.push(op::LD_B_ABS, 0);
        assembler.jump_if(op::JEQ_K, 7, far);
        for _ in 0..1000 {
            assembler.push(op::TAX, 0);
        }
        assembler.push(op::RET_K, 1);
        assembler.bind(far);
        assembler.push(op::RET_K, 2);
        let program = assembler.finish();
        assert_eq!((run(&program, &[7]), run(&program, &[8])), (2, 1));
    }
}
