"""Reads the machine code of kernel objects: functions, and the loops in them that do the work.

An inner loop of FMAs, or of 8-bit products, is a cycle of the control flow that holds such instructions,
and no smaller cycle that does.
"""

import re
import subprocess
import sys
from collections import namedtuple

Instruction = namedtuple("Instruction", "address mnemonic operands")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
TARGET = re.compile(r"(?:^|[\s,])([0-9a-f]+) <[^>]+>")


class Machine:
    """What differs between x86-64 and aarch64 disassembly."""

    def __init__(self, objdump, **patterns):
        self.objdump = objdump
        for name, pattern in patterns.items():
            setattr(self, name, re.compile(pattern))


X86 = Machine(
    objdump=["objdump", "-M", "intel"],
    fma=r"^(vfn?m(add|sub)(132|213|231)|vdpbf16)ps ",
    dot=r"^({vex} )?vp(dpbusd|maddubsw) ",
    vector=r"\b[xyz]mm\d",
    jump=r"^j\w+ ",
    end=r"^(jmp|ret|ud2|hlt)",
    stack=r"\[[^\]]*\b[re]sp\b",
    frame=r"\[[^\]]*\brbp\b",
    frame_setup=r"^(mov rbp,rsp|lea rbp,\[rsp)",
    copy=r"^v?mov(aps|ups|dqa|dqu)\w* [xyz]mm\d+,[xyz]mm\d+$",
)
AARCH64 = Machine(
    objdump=["aarch64-linux-gnu-objdump"],
    fma=r"^fml[as] v\d+\.4s",
    dot=r"^(sdot|smmla|smull2?|smlal2?) v\d",
    vector=r"\b[qv]\d",
    jump=r"^(b|b\.\w+|cbn?z|tbn?z) ",
    end=r"^(b|br|ret|brk|udf)\b(?!\.)",
    stack=r"\[sp\b",
    frame=r"\[x29\b",
    frame_setup=r"^(mov x29, sp|add x29, sp)",
    copy=r"^(mov|orr) v\d+\.16b, v\d+\.16b(, v\d+\.16b)?$",
)


def machine_of(path):
    with open(path, "rb") as file:
        header = file.read(20)
    kinds = {62: X86, 183: AARCH64}
    kind = kinds.get(int.from_bytes(header[18:20], "little"))
    if header[:4] != b"\x7fELF" or kind is None:
        sys.exit(f"{path}: not an object of x86-64 or aarch64")
    return kind


def functions_of(path, machine):
    """(name, instructions) of every function of an object."""
    command = [*machine.objdump, "-d", "--no-show-raw-insn", path]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    functions = []
    for line in listing.splitlines():
        start, code = FUNCTION.match(line), LINE.match(line)
        if start:
            functions.append((start.group(1), []))
        elif code and functions:
            address, mnemonic, operands = code.groups()
            functions[-1][1].append(Instruction(int(address, 16), mnemonic, operands.strip()))
    return functions


def text_of(instruction):
    return f"{instruction.mnemonic} {instruction.operands}"


def count(pattern, body):
    return sum(bool(pattern.match(text_of(i))) for i in body)


def spills_of(machine, code, body):
    """A function's loop's instructions with an operand at the stack pointer, or at its frame pointer."""
    has_frame = any(machine.frame_setup.match(text_of(i)) for i in code)
    return [i for i in body if machine.stack.search(i.operands)
            or has_frame and machine.frame.search(i.operands)]


def fmas(machine, body):
    return count(machine.fma, body)


def successors_of(machine, code):
    """For every instruction, the indices of those that may run next."""
    index = {instruction.address: n for n, instruction in enumerate(code)}
    successors = []
    for n, instruction in enumerate(code):
        text = text_of(instruction)
        following = [n + 1] if n + 1 < len(code) and not machine.end.match(text) else []
        target = TARGET.search(instruction.operands) if machine.jump.match(text) else None
        if target and int(target.group(1), 16) in index:
            following.append(index[int(target.group(1), 16)])
        successors.append(following)
    return successors


def reach(start, edges, allowed, seen):
    """Depth-first order, last first finished, of what start reaches; adds it to seen."""
    order, stack = [], [(start, iter(edges[start]))]
    seen.add(start)
    while stack:
        node, following = stack[-1]
        inner = next((m for m in following if m in allowed and m not in seen), None)
        if inner is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(inner)
            stack.append((inner, iter(edges[inner])))
    return order


def cycles(nodes, successors, predecessors):
    """The strongly connected parts of a graph's nodes that hold a cycle (Kosaraju 1978)."""
    order, seen = [], set()
    for node in nodes:
        if node not in seen:
            order += reach(node, successors, nodes, seen)
    seen = set()
    for node in reversed(order):
        if node not in seen:
            part = set(reach(node, predecessors, nodes, seen))
            if len(part) > 1 or node in successors[node]:
                yield part
            nodes = nodes - part


def innermost(loop, successors, predecessors, has_work):
    """The innermost loops that hold work inside a loop, itself if there are none within."""
    entries = (n for n in loop if any(p not in loop for p in predecessors[n]))
    header = min(entries, default=min(loop))
    inner = [part for part in cycles(loop - {header}, successors, predecessors) if has_work(part)]
    if not inner:
        yield loop
    for part in inner:
        yield from innermost(part, successors, predecessors, has_work)


def fma_loops(machine, code):
    return loops_of(machine.fma, code, machine)


def loops_of(work, code, machine):
    """The bodies of a function's inner loops of instructions that the pattern `work` names."""
    successors = successors_of(machine, code)
    predecessors = [[] for _ in code]
    for n, following in enumerate(successors):
        for m in following:
            predecessors[m].append(n)

    def has_work(part):
        return count(work, (code[n] for n in part)) > 0

    loops = []
    for part in filter(has_work, cycles(set(range(len(code))), successors, predecessors)):
        loops += innermost(part, successors, predecessors, has_work)
    return [[code[n] for n in sorted(loop)] for loop in sorted(loops, key=min)]
