#!/usr/bin/python3
"""documented.py MANUALS: what an administrator meets is explained, and what is explained is tested.

- Every block of commands in README.md and the manuals says which test runs it, and that test names it.
- Every reason token and every key stands in the finished manuals (in the folder MANUALS), with its sentence.
- Every log line of the agent, the relay and smtpd's filter, and every text that the Exim object puts into Exim's log, stands in a manual.
"""

import pathlib
import re
import sys

import tree

sys.dont_write_bytecode = True
sys.path.insert(0, str(tree.ROOT / 'tests/packaging'))
import documented  # noqa: E402

# Sources whose every sentence ends in a log, whatever function it passes through.
SPOKEN = ['shims/exim/exim.cc', 'shims/exim/connection.cc', 'shims/exim/backend.cc', 'shims/exim/backend_agent.cc',
          'shims/exim/backend_fork.cc', 'shims/wire/client.cc']
# Others log by this.
LOGGERS = ('core/', 'shims/agent/', 'shims/opensmtpd/', 'shims/relay/')
LOGGING = re.compile(r'\b(?:log_?\(Level::(?!debug)\w+,|(?<!void )complain\()')
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


def block_complaints(blocks, read):
    for block in blocks:
        place = f'{block.page}:{block.line}'
        if not block.kind:
            yield f'{place}: a block without a word before it on who runs it (tests/packaging/documented.py says how)'
        elif block.kind == 'run' and block.label not in documented.RUN_BY:
            yield f'{place}: no test is known to run "{block.label}"'
        elif block.kind == 'run' and not known(block, read(documented.RUN_BY[block.label])):
            yield f'{place}: {documented.RUN_BY[block.label]} does not run "{block.label}"'


def known(block, test):
    """A test asks for its blocks by label; the Makefile runs its own targets, and `check-full` all of them."""
    if test.startswith('#!'):
        return f"'{block.label}'" in test
    targets = re.findall(r'^make ([a-z-]+)', block.text, re.M)
    return targets and all(re.search(rf'^(?:check-full|deb-check):[^#]*\b{target}\b', test, re.M) for target in targets)


def definitions(text, macro):
    """(first quoted token, longest quoted text) of each entry of a .def file; a reader other than the one that fills the
    manuals."""
    text = re.sub(r'^\s*//.*$', '', text, flags=re.M)
    for entry in re.split(rf'^{macro}\(', text, flags=re.M)[1:]:
        yield STRING.search(entry)[1]


def plain(roff):
    """A manual's text as it is read, in lower case and with single spaces."""
    text = re.sub(r'\\f[A-Z]|\\\\&|\\&', '', roff)
    text = re.sub(r'^\.\\".*$', '', text, flags=re.M)
    text = re.sub(r'^\.(?:[A-Z]{1,2}|nf|fi)\b ?', '', text, flags=re.M)
    for escape, means in (('\\-', '-'), ('\\(cq', "'"), ('\\(aq', "'"), ('\\(lq', '"'), ('\\(rq', '"'), ('\\(dq', '"'),
                          ('\\(rs', '\\'), ('\\ ', ' '), ('\\e', '\\'), ('\\(sc', '§')):
        text = text.replace(escape, means)
    return ' '.join(re.sub(r'"', '', text).split()).lower()


def definition_complaints(page, roff, tokens):
    headings = {' '.join(line.split()[1:]).replace('\\-', '-').replace('\\&', '') for line in roff.splitlines()
                if line.startswith('.B ')}
    yield from (f'{page} does not explain {token}' for token in tokens if token not in headings)
    if match := re.search(r'@[A-Z]+@', roff):
        yield f'{page} still holds {match[0]}'


def _statements(code):
    """The text of each logging call, to its semicolon."""
    for match in LOGGING.finditer(code):
        yield re.split(r';(?:\s|$)', code[match.start():], maxsplit=1)[0]


def sentences(path, code):
    """What of a source file is read in a log: literals of at least two words, adjacent ones joined."""
    code = re.sub(r'^\s*(?://.*|#include.*|find\(.*)$', '', code, flags=re.M)
    for text in [code] if path in SPOKEN else _statements(code):
        for literal in re.finditer(r'"(?:[^"\\]|\\.)*"(?:\s*"(?:[^"\\]|\\.)*")*', text):
            spoken = ''.join(STRING.findall(literal[0])).replace('\\n', ' ').replace('`', '').strip(' :;,[]')
            spoken = re.sub('^(?:sealane: |no decision: |not verified: |TEMP fork )+', '', spoken)
            if len(spoken.split()) >= 2 and re.search(r'[a-z]{2}', spoken):
                yield spoken


def log_complaints(files, manuals):
    for path, code in files:
        if path in SPOKEN or path.startswith(LOGGERS) and path.endswith('.cc'):
            for spoken in sentences(path, code):
                if ' '.join(spoken.split()).lower() not in manuals:
                    yield f'{path}: no manual explains "{spoken}"'


def self_test():
    block = documented.Block
    test = {'Makefile': 'check-full: check demo  ## tidy\n', 'tests/packaging/mail': "#!/x\nrun('exim')"}.get
    good = [block('p', 1, 'run', 'try', 'make demo # x\nmake check'), block('p', 2, 'shown', 'why', 'x'), block('p', 3, 'run', 'exim', 'x')]
    bad = [block('p', 1, '', '', 'x'), block('p', 2, 'run', 'nobody', 'x'), block('p', 3, 'run', 'try', 'make tidy'),
           block('p', 4, 'run', 'back', 'x')]
    assert not list(block_complaints(good, test)) and len(list(block_complaints(bad, test))) == len(bad)
    assert list(definitions('// M("no")\nM(a, "one", "two " "more")\nM(b,\n  "three")\n', 'M')) == ['one', 'three']
    assert list(definition_complaints('p', '.B a\\-b\nc\n', ['a-b'])) == []
    assert len(list(definition_complaints('p', '.B a\n@KEYS@', ['c', 'a']))) == 2
    manuals = plain('.TP\n.B the\\-log line\nMeans \\fIit\\fR.\n')
    code = 'log(Level::error, "the-log line: " + x);\nlog_(Level::notice,\n  "another " "line here" + y);\nf("not a log");\n'
    assert len(list(log_complaints([('core/x.cc', code)], manuals))) == 1
    assert len(list(log_complaints([('shims/exim/exim.cc', 'return "sealane: says this";')], manuals))) == 1


def main():
    self_test()
    folder = pathlib.Path(sys.argv[1])
    files = dict(tree.files())
    finished = {page: (folder / page).read_text() for page in ('sealane.1', 'sealane.conf.5', 'sealane-exim.7', 'sealane-opensmtpd.7')}
    complaints = [*block_complaints((block for page in documented.PAGES for block in documented.blocks(page)), files.get),
                  *definition_complaints('sealane.1', finished['sealane.1'],
                                         definitions(files['core/decide/reasons.def'], 'SEALANE_REASON')),
                  *definition_complaints('sealane.conf.5', finished['sealane.conf.5'],
                                         definitions(files['core/config/keys.def'], 'SEALANE_KEY')),
                  *log_complaints(files.items(), ' '.join(map(plain, finished.values())))]
    tree.end(complaints)


if __name__ == '__main__':
    main()
