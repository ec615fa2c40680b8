#!/usr/bin/python3
"""Who may include what. A folder that is not in the table, an edge that is not in it, a third-party header outside its
one file and a header that nobody has heard of are all refused.

An edge is added here together with the reason why the picture in ARCHITECTURE.md still holds.
"""

import re

import tree

# base <- domain <- {dns, dane, sts} <- decide <- {config, gather, verify, render} <- engine <- {plugin, agent, cli}
_UP_TO_STS = {'core/base', 'core/domain', 'core/dns', 'core/dane', 'core/sts'}
_UP_TO_DECIDE = _UP_TO_STS | {'core/decide'}
_WHOLE_CORE = _UP_TO_DECIDE | {'core/config', 'core/verify', 'core/render', 'core/smtp', 'core/store', 'core/engine'}

EDGES = {
    'core/base': set(),
    'core/domain': {'core/base'},
    'core/dns': {'core/base', 'core/domain'},
    'core/dane': {'core/base'},
    'core/sts': {'core/base', 'core/domain'},
    'core/decide': _UP_TO_STS,
    'core/config': {'core/base', 'core/domain', 'core/decide'},
    'core/verify': _UP_TO_DECIDE,
    'core/smtp': {'core/base', 'core/domain'},
    'core/render': _UP_TO_DECIDE,
    'core/store': {'core/base', 'core/domain', 'core/sts'},
    'core/gather': _UP_TO_DECIDE,
    'core/engine': _UP_TO_DECIDE | {'core/config', 'core/gather', 'core/store'},
    'plugin': _WHOLE_CORE,
    # Linked with libc alone: Exim maps it in every delivery process.
    'shims/wire': set(),
    'shims/exim': {'plugin', 'shims/wire'},
    # Our own programs use the core.
    # The relay asks the agent, and verifies by itself: no DNS, no HTTPS, no store.
    'shims/relay': {'core/base', 'core/domain', 'core/dane', 'core/decide', 'core/config', 'core/verify', 'core/render',
                    'core/smtp', 'shims/wire', 'shims/agent'},
    'shims/opensmtpd': {'core/base', 'core/domain', 'core/decide', 'core/config', 'shims/wire'},
    'shims/agent': _WHOLE_CORE | {'shims/wire'},
    'shims/cli': _WHOLE_CORE | {'shims/wire', 'shims/agent', 'shims/relay'},
    'shims/cli/check': _WHOLE_CORE | {'shims/cli'},
    'shims/cli/doctor': _WHOLE_CORE | {'shims/wire', 'shims/agent', 'shims/cli'},
}

# Adapters sit in the folder of their seam, but are leaves: their files may see the configuration and each other, and
# only the file that picks adapters may see them.
ADAPTERS = [
    {'core/dns/unbound_resolver', 'core/dns/unbound_context'},
    {'core/sts/curl_fetcher', 'core/sts/private_address'},
]
ADAPTER_EDGES = {'core/config'}
PICKS_ADAPTERS = 'core/engine/make_adapters.cc'

# The C interface is pure C: of it, a shim sees sealane.h and nothing else.
PUBLIC = {'plugin': 'plugin/sealane.h'}

# Third-party headers: each library in one source file, behind a seam of ours.
THIRD_PARTY = {
    r'event2/.*': {'core/base/loop.cc'},
    r'idn2\.h': {'core/domain/domain.cc'},
    r'unbound(-event)?\.h': {'core/dns/unbound_context.cc'},
    r'curl/.*': {'core/sts/curl_fetcher.cc'},
    r'sqlite3\.h': {'core/store/sqlite_store.cc'},
    r'nlohmann/.*': {'core/render/json.cc'},
    r'fmt/.*': {'core/render/text.cc'},
    r'CLI/.*': {'shims/cli/main.cc'},
    # Jobs that have nothing in common: parsing one DER object, judging a chain, showing a certificate to people, TLS on
    # a connection, the digest of a message, and, inside libcurl's callback, turning off the certificate's CN (libcurl has no option for it).
    r'openssl/.*': {'core/dane/der.cc', 'core/verify/openssl_verifier.cc', 'core/verify/certificate.cc',
                    'core/smtp/client.cc', 'core/sts/curl_fetcher.cc', 'shims/relay/digest.cc'},
    # The type that Result is made of; a header-only vocabulary type, not a library behind a seam.
    r'tl/expected\.hpp': {'core/base/result.h', 'core/sts/policy.h'},
}

# Tests make keys, zones and broken databases of their own.
TEST_THIRD_PARTY = r'(doctest|openssl|nlohmann|event2)/.*|sqlite3\.h'

SYSTEM = re.compile(r'''[a-z_0-9]+                       # the C++ library
    | (sys|netinet|arpa|linux)/[a-z_0-9]+\.h             # POSIX and Linux
    | (ctype|dirent|dlfcn|errno|fcntl|grp|ifaddrs|inttypes|limits|malloc|netdb|poll|pthread|pwd|sched|signal|spawn|stdarg|stdbool|stddef|stdint
      |stdio|stdlib|string|strings|sysexits|syslog|termios|time|unistd)\.h''', re.VERBOSE)

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
SOURCE = re.compile(r'^(core|plugin|shims|tests)/.*\.(cc|h|c|def)$')
# Written by the build; sql/embed.py makes it.
GENERATED = {'migrations.inc'}


def adapter(path):
    """The files of the adapter that `path` belongs to; nothing for all other files."""
    stem = path.rsplit('.', 1)[0]
    return next((files for files in ADAPTERS if stem in files), set())


def quoted_complaint(path, target, present):
    folder = path.rpartition('/')[0]
    if target in GENERATED:
        return None
    if '/' not in target:
        target = f'plugin/{target}' if f'plugin/{target}' in present else f'{folder}/{target}'
    if target not in present:
        return f'"{target}" does not exist; name it from the top of the tree'
    to = target.rpartition('/')[0]
    if path.startswith('tests/'):
        return None
    if to.startswith('tests'):
        return f'{folder} must not include {to}'
    if adapter(target) and adapter(path) != adapter(target) and path != PICKS_ADAPTERS:
        return f'only {PICKS_ADAPTERS} may include the adapter {target}'
    if to == folder or to in EDGES[folder] or (adapter(path) and to in ADAPTER_EDGES):
        if to != folder and PUBLIC.get(to, target) != target:
            return f'of {to}, only {PUBLIC[to]} may be included'
        return None
    return f'{folder} must not include {to} ({target})'


def bracketed_complaint(path, target):
    for pattern, owners in THIRD_PARTY.items():
        if re.fullmatch(pattern, target):
            if path in owners or (path.startswith('tests/') and re.fullmatch(TEST_THIRD_PARTY, target)):
                return None
            return f'<{target}> belongs to {", ".join(sorted(owners))}'
    if SYSTEM.fullmatch(target) or (path.startswith('tests/') and re.fullmatch(TEST_THIRD_PARTY, target)):
        return None
    return f'<{target}> is in no table of tests/lint/includes.py'


def complaints(sources):
    """`sources`: {path: text}."""
    found = []
    for path, text in sources.items():
        folder = path.rpartition('/')[0]
        if not path.startswith('tests/') and folder not in EDGES:
            found.append(f'{path}: the folder {folder} is not in the table of tests/lint/includes.py')
            continue
        for match in INCLUDE.finditer(text):
            quoted, bracketed = match.groups()
            wrong = quoted_complaint(path, quoted, sources) if quoted else bracketed_complaint(path, bracketed)
            if wrong:
                found.append(f'{path}:{text.count(chr(10), 0, match.start(1 if quoted else 2)) + 1}: {wrong}')
    # Stale rows of the tables would hide what they once allowed.
    folders = {path.rpartition('/')[0] for path in sources}
    found += [f'{folder}: in the table, but there is no such folder' for folder in sorted(EDGES.keys() - folders)]
    for pattern, owners in THIRD_PARTY.items():
        for owner in sorted(owners):
            included = (match[2] for match in INCLUDE.finditer(sources.get(owner, '')) if match[2])
            if not any(re.fullmatch(pattern, header) for header in included):
                found.append(f'{owner}: in the table for <{pattern}>, but it includes no such header')
    stems = {path.rsplit('.', 1)[0] for path in sources}
    found += [f'{file}: in the table of adapters, but there is no such file' for file in sorted(set().union(*ADAPTERS) - stems)]
    return found


def self_test(sources):
    """Each kind of offence, planted in the real tree, is seen."""
    def seen(path, line, word):
        planted = dict(sources)
        planted[path] = planted.get(path, '') + f'\n{line}\n'
        new = set(complaints(planted)) - set(complaints(sources))
        assert any(word in complaint for complaint in new), (path, line, new)

    seen('core/domain/domain.cc', '#include "core/decide/decide.h"', 'core/domain must not include core/decide')
    seen('shims/wire/codec.cc', '#include "core/base/bytes.h"', 'must not include core/base')
    seen('shims/exim/exim.cc', '#include "plugin/guard.h"', 'only plugin/sealane.h')
    seen('plugin/sealane.cc', '#  include "core/dns/unbound_resolver.h"', 'adapter')
    seen('core/engine/engine.cc', '#include "tests/unit/fakes.h"', 'must not include tests/unit')
    seen('core/render/text.cc', '#include <nlohmann/json.hpp>', 'belongs to core/render/json.cc')
    seen('core/render/text.cc', '#include <boost/asio.hpp>', 'in no table')
    seen('core/render/text.cc', '#include "core/render/nothing.h"', 'does not exist')
    seen('core/new/file.cc', '', 'not in the table')

    def seen_without(path, word):
        assert any(word in complaint for complaint in complaints({p: t for p, t in sources.items() if p != path})), path

    seen_without('core/domain/domain.cc', 'includes no such header')
    seen_without('core/store/store.h', 'does not exist')


if __name__ == '__main__':
    all_sources = {path: text for path, text in tree.files() if SOURCE.match(path)}
    self_test(all_sources)
    tree.end(complaints(all_sources))
