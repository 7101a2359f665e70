#!/usr/bin/env python3
"""A second verifier of bundles, written from BUNDLE.md and SPEC.md alone: nothing of the project's code is in it.

    python3 verify_bundle.py BUNDLE [--trust FILE] [--json]

BUNDLE is a ZIP or a directory. Exit codes are those of BUNDLE.md. Needs Python 3.11 and the package `cryptography`.
It is made to be read and to disagree where the other one is wrong; it is slow, and holds arrays in memory.
"""

import argparse
import base64
import binascii
import datetime
import hashlib
import json
import os
import re
import struct
import sys

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, utils

# Limits of BUNDLE.md, then of SPEC.md.
FILES_MAX, PATH_BYTES_MAX, RECORDERS_MAX = 65_536, 512, 256
DOCUMENT_BYTES_MAX, SMALL_BYTES_MAX, LINE_BYTES_MAX = 12 << 20, 1 << 20, 2 << 20
CUSTODY_MAX, JITTER_US = 100_000, 50_000
HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX, INIT_BYTES_MAX = 8_192, 33_554_432, 1_048_576
FIXES_MAX, DURATION_US_MAX, FIX_OFFSET_MS_MAX = 128, 300_000_000, 300_000
LATITUDE_E7_MAX, LONGITUDE_E7_MAX, COURSE_CDEG_MAX = 900_000_000, 1_800_000_000, 35_999
CODECS_BYTES_MAX, CATEGORY_BYTES_MAX, TEXT_BYTES_MAX = 128, 64, 512
SEQUENCE_MAX = TIME_US_MAX = 2**53 - 1
PROOF_HASHES_MAX, CHECKPOINT_BYTES_MAX, SUCCESSION_BYTES_MAX = 64, 4_096, 32_768

FORMAT = "aigaq-bundle/1"
UNNAMED = {"manifest.json", "SHA256SUMS", "manifest.sig"}
MUST = ["log/checkpoint", "certs/exporter.pem", "gaps.json", "markers.json", "custody.jsonl"]
VERDICTS = ["authentic", "authentic-with-gaps", "pending", "unsigned", "not-authentic"]
EXIT = {"authentic": 0, "authentic-with-gaps": 1, "pending": 2, "not-authentic": 3, "unsigned": 4}
WEIGHS = {
    **dict.fromkeys(
        ["dropped", "lost-on-device", "deleted", "deletion-unproved", "damaged", "unproved-tail", "gap"],
        "authentic-with-gaps",
    ),
    "not-yet-witnessed": "pending",
    "unsigned": "unsigned",
}
STOPS = ["wearer", "battery", "storage-full", "shutdown", "fault", "schedule", "source-ended"]
LOSSES = ["storage-full", "storage-fault", "restored"]
KINDS = (
    "look-up view request export denial hold release deletion key-destruction revocation configuration account backup "
    "restore sign-in sign-out class mark incident figures check"
).split()


class Unreadable(Exception):
    """It is no bundle that can be read: exit code 5."""


class Wrong(Exception):
    """Something in it does not read."""


def sha256(data):
    return hashlib.sha256(data).digest()


def b64(text):
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError, AttributeError) as error:
        raise Wrong(f"no base64: {error}") from None


# --- Where the bytes are -------------------------------------------------------------------------------------------------


def is_plain(path):
    return (
        len(path.encode()) <= PATH_BYTES_MAX
        and all(part not in ("", ".", "..") for part in path.split("/"))
        and all("!" <= char <= "~" and char not in "\\:" for char in path)
    )


class Directory:
    def __init__(self, root):
        self.root, self.files = root, {}
        self.walk("", 0)

    def walk(self, below, depth):
        if depth > 8:
            raise Unreadable("directories are too deep")
        with os.scandir(os.path.join(self.root, below)) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}" if below else entry.name
                if not is_plain(path):
                    raise Unreadable(f"the path {path!r}")
                if entry.is_dir(follow_symlinks=False):
                    self.walk(path, depth + 1)
                elif entry.is_file(follow_symlinks=False):
                    self.files[path] = (None, entry.stat(follow_symlinks=False).st_size)
                    if len(self.files) > FILES_MAX:
                        raise Unreadable("too many files")
                else:
                    raise Unreadable(f"{path} is neither a file nor a directory")

    def open(self, path):
        return open(os.path.join(self.root, path), "rb"), 0


class Zip:
    """A ZIP with nothing in it but what a bundle has: stored entries, one after the other, one table."""

    def __init__(self, path):
        self.path, self.files = path, {}
        with open(path, "rb") as file:
            self.read(file, os.fstat(file.fileno()).st_size)

    def open(self, path):
        return open(self.path, "rb"), self.files[path][0]

    @staticmethod
    def at(file, offset, length):
        file.seek(offset)
        data = file.read(length)
        if len(data) != length:
            raise Unreadable("the ZIP ends too early")
        return data

    def read(self, file, size):
        if size < 22:
            raise Unreadable("this is no ZIP")
        end = struct.unpack("<IHHHHIIH", self.at(file, size - 22, 22))
        if end[0] != 0x06054B50 or end[1] != end[2] or end[3] != end[4] or end[7] != 0:
            raise Unreadable("this is no ZIP, or it has a comment")
        count, length, offset, ends = end[4], end[5], end[6], size - 22
        if size >= 42:
            locator = struct.unpack("<IIQI", self.at(file, size - 42, 20))
            if locator[0] == 0x07064B50:
                if locator[1] != 0 or locator[3] != 1 or locator[2] + 56 != size - 42:
                    raise Unreadable("the ZIP64 records do not read")
                wide = struct.unpack("<IQHHIIQQQQ", self.at(file, locator[2], 56))
                if wide[0] != 0x06064B50 or wide[1] != 44 or wide[4:6] != (0, 0) or wide[6] != wide[7]:
                    raise Unreadable("the ZIP64 records do not read")
                narrow = zip((count, length, offset), (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), wide[7:10])
                if any(value not in (all_ones, real) for value, all_ones, real in narrow):
                    raise Unreadable("the ZIP has two tables")
                count, length, offset, ends = wide[7], wide[8], wide[9], locator[2]
        if offset + length != ends or length > 16 << 20 or count > FILES_MAX:
            raise Unreadable("the table of the ZIP is not at its end, or too long")
        table, taken, root, names = self.at(file, offset, length), [], None, set()
        for _ in range(count):
            if len(table) < 46:
                raise Unreadable("the table of the ZIP does not read")
            fields = struct.unpack("<IHHHHIIIIHHHHHII", table[:46])
            flags, method, packed, plain = fields[3], fields[4], fields[8 - 1], fields[8]
            name_n, extra_n, comment_n, disk, local = fields[9], fields[10], fields[11], fields[12], fields[15]
            rest = table[46 : 46 + name_n + extra_n + comment_n]
            if fields[0] != 0x02014B50 or len(rest) != name_n + extra_n + comment_n or disk != 0:
                raise Unreadable("the table of the ZIP does not read")
            table = table[46 + len(rest) :]
            name = rest[:name_n]
            plain, packed, local = widened(rest[name_n : name_n + extra_n], plain, packed, local)
            if flags & 0x2049 or method != 0 or plain != packed:
                raise Unreadable("an entry is packed or encrypted")
            if local + 30 > offset:
                raise Unreadable("the ZIP says two things about one file")
            header = struct.unpack("<IHHHHHIIIHH", self.at(file, local, 30))
            more = self.at(file, local + 30, header[9] + header[10])
            sizes = widened(more[header[9] :], header[8], header[7])
            start = local + 30 + len(more)
            same = header[0] == 0x04034B50 and header[2:4] == (flags, method) and more[: header[9]] == name
            if not same or sizes != (plain, plain) or start + plain > offset:
                raise Unreadable("the ZIP says two things about one file")
            taken.append((local, start + plain))
            directory, slash, path = text_of(name).partition("/")
            if not slash or not is_plain(directory) or (root or directory) != directory:
                raise Unreadable("the ZIP has more than one directory")
            root = directory
            if plain == 0 and (path == "" or path.endswith("/")):
                continue
            if not is_plain(path) or path in names:
                raise Unreadable(f"the ZIP has the path {path!r}, or has it twice")
            names.add(path)
            self.files[path] = (start, plain)
        reached = 0
        for local, after in sorted(taken):
            if local != reached:
                raise Unreadable("files of the ZIP overlap, or something lies between them")
            reached = after
        if table or reached != offset:
            raise Unreadable("the ZIP has more than its table says")


def text_of(data):
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Unreadable("a name is no text") from None


def widened(extra, *fields):
    wide = b""
    while extra:
        if len(extra) < 4:
            raise Unreadable("an extra field of the ZIP does not read")
        kind, length = struct.unpack("<HH", extra[:4])
        if len(extra) < 4 + length:
            raise Unreadable("an extra field of the ZIP does not read")
        if kind == 1:
            wide = extra[4 : 4 + length]
        extra = extra[4 + length :]
    found = []
    for field in fields:
        if field == 0xFFFFFFFF:
            if len(wide) < 8:
                raise Unreadable("a size in the ZIP is missing")
            field, wide = struct.unpack("<Q", wide[:8])[0], wide[8:]
        found.append(field)
    return tuple(found)


# --- SPEC.md: encoding, headers, signatures, log -------------------------------------------------------------------------


class Cursor:
    """Reads what SPEC.md section 2 writes, and no other spelling of it."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Wrong("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self, bits):
        value = 0
        for place in range(0, 70, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << place
            if byte < 0x80:
                if (byte == 0 and place > 0) or value >= 1 << bits:
                    raise Wrong("a number is not canonical, or too large")
                return value
        raise Wrong("a number does not end")

    def signed(self, bits):
        value = self.varint(bits)
        return value >> 1 if value & 1 == 0 else -(value >> 1) - 1

    def flag(self):
        value = self.take(1)[0]
        if value > 1:
            raise Wrong("a flag is neither 0 nor 1")
        return bool(value)

    def text(self):
        try:
            return self.take(self.varint(32)).decode()
        except UnicodeDecodeError:
            raise Wrong("a text is not UTF-8") from None

    def end(self):
        if self.at != len(self.data):
            raise Wrong("bytes are left over")


def need(holds, what):
    if not holds:
        raise Wrong(what)


CONTROLS = re.compile("[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def read_header(data):
    need(len(data) <= HEADER_BYTES_MAX, "a header is too long")
    cursor = Cursor(data)
    header = {"recorder": cursor.take(16).hex(), "sequence": cursor.varint(64), "previous": cursor.take(32)}
    header |= {"captured_at": cursor.varint(64), "duration_us": cursor.varint(32), "payload_length": cursor.varint(32)}
    header["payload_digest"] = cursor.take(32)
    number, sequence, u = cursor.varint(32), header["sequence"], cursor.varint
    if number == 0:
        name, fields = "Start", {"codecs": cursor.text()}
        need(len(fields["codecs"]) <= CODECS_BYTES_MAX, "codecs")
        need(all(" " <= char <= "~" and char != '"' for char in fields["codecs"]), "codecs")
    elif number == 1:
        name, fields = "Media", {"recording": u(64), "ordinal": u(64), "independent": cursor.flag()}
        need(fields["recording"] < sequence and fields["ordinal"] < sequence, "recording or ordinal")
    elif number == 2:
        name, fields = "Mark", {"category": cursor.text(), "note": cursor.text(), "before_s": u(16), "after_s": u(16)}
        category = fields["category"]
        need(0 < len(category.encode()) <= CATEGORY_BYTES_MAX and not CONTROLS.search(category), "category")
        need(len(fields["note"].encode()) <= TEXT_BYTES_MAX, "note")
    elif number == 3:
        name, fields = "Health", {"battery_percent": cursor.take(1)[0], "storage_free_bytes": u(64)}
        fields |= {"backlog_bytes": u(64), "temperature_centi": cursor.signed(16), "firmware": cursor.text()}
        need(fields["battery_percent"] <= 100 and len(fields["firmware"].encode()) <= TEXT_BYTES_MAX, "health")
    elif number == 4:
        recording, cause = u(64), u(32)
        need(cause < len(STOPS) and recording < sequence, "stop")
        name, fields = "Stop", {"recording": recording, "cause": STOPS[cause]}
    elif number == 5:
        name, fields = "ClockStep", {"before": u(64), "after": u(64)}
        need(max(fields.values()) <= TIME_US_MAX, "times")
    elif number == 6:
        name, fields = "Lost", {"first": u(64), "last": u(64), "from": u(64), "to": u(64)}
        cause = u(32)
        need(cause < len(LOSSES) and fields["first"] <= fields["last"] < sequence, "lost")
        need(fields["from"] <= fields["to"] <= TIME_US_MAX, "lost")
        fields["cause"] = LOSSES[cause]
    else:
        raise Wrong("no such content")
    header["name"], header["fields"], header["fixes"] = name, fields, []
    for _ in range(u(32)):
        need(len(header["fixes"]) < FIXES_MAX, "fixes")
        fix = {"offset_ms": u(32), "latitude_e7": cursor.signed(32), "longitude_e7": cursor.signed(32)}
        fix |= {"accuracy_dm": u(16), "speed_cms": u(16), "course_cdeg": u(16)}
        need(abs(fix["latitude_e7"]) <= LATITUDE_E7_MAX and abs(fix["longitude_e7"]) <= LONGITUDE_E7_MAX, "a fix")
        need(fix["course_cdeg"] <= COURSE_CDEG_MAX or fix["course_cdeg"] == 65_535, "a fix")
        need(fix["offset_ms"] <= FIX_OFFSET_MS_MAX, "a fix")
        need(not header["fixes"] or header["fixes"][-1]["offset_ms"] <= fix["offset_ms"], "fixes")
        header["fixes"].append(fix)
    cursor.end()
    need(sequence <= SEQUENCE_MAX and (sequence == 0) == (header["previous"] == bytes(32)), "previous")
    need(header["captured_at"] + header["duration_us"] <= TIME_US_MAX, "captured_at")
    need(header["duration_us"] <= (DURATION_US_MAX if name == "Media" else 0), "duration_us")
    most = {"Start": INIT_BYTES_MAX, "Media": PAYLOAD_BYTES_MAX}.get(name, 0)
    need(header["payload_length"] <= most and (header["payload_length"] > 0) == (most > 0), "payload_length")
    need(most > 0 or header["payload_digest"] == sha256(b""), "payload_digest")
    header["end"] = header["captured_at"] + header["duration_us"]
    return header


def link_digest(header):
    return sha256(b"aigaq/1 link\n" + header)


def load_key(spki):
    """A public key with one of the two prefixes of SPEC.md section 3."""
    if spki[:12] == bytes.fromhex("302a300506032b6570032100") and len(spki) == 44:
        return ed25519.Ed25519PublicKey.from_public_bytes(spki[12:])
    if spki[:26] == bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") and len(spki) == 91:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), spki[26:])
    raise Wrong("no key of a recorder")


def signed(key, digest, signature):
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, digest)
        else:
            r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
            key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(hashes.SHA256()))
        return len(signature) == 64
    except (InvalidSignature, ValueError):
        return False


def leaf_hash(digest, at):
    return sha256(b"\0" + digest + struct.pack(">Q", at))


def root_of(leaf, index, size, proof):
    """The root that an inclusion proof leads to; none if it leads nowhere."""
    if index >= size or len(proof) > PROOF_HASHES_MAX:
        return None
    fn, sn = index, size - 1
    for step in proof:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            leaf = sha256(b"\1" + step + leaf)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            leaf = sha256(b"\1" + leaf + step)
        fn, sn = fn >> 1, sn >> 1
    return leaf if sn == 0 else None


def consistent(old, before, size, root, proof):
    """RFC 9162 section 2.1.4.2."""
    if old == size:
        return not proof and before == root
    if old == 0 or old > size or not proof or len(proof) > PROOF_HASHES_MAX:
        return False
    if old & (old - 1) == 0:
        proof = [before] + proof
    fn, sn = old - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = proof[0]
    for step in proof[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = sha256(b"\1" + step + fr), sha256(b"\1" + step + sr)
            while fn & 1 == 0 and fn != 0:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = sha256(b"\1" + sr + step)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == before and sr == root


class NoteKey:
    """A verifier key of a signed note: of a log (type 1) or of a witness (type 4)."""

    def __init__(self, vkey, kind):
        self.vkey = vkey
        try:
            self.name, key_id, key = vkey.split("+", 2)
        except ValueError:
            raise Wrong("no vkey") from None
        key = b64(key)
        need(len(key) == 33 and key[0] == kind and self.name and not re.search(r"\s", self.name), "no vkey")
        self.id = sha256(self.name.encode() + b"\n" + key)[:4]
        need(self.id.hex() == key_id, "the key id of a vkey")
        self.kind, self.key = kind, ed25519.Ed25519PublicKey.from_public_bytes(key[1:])

    def signs(self, checkpoint):
        text, lines = split_note(checkpoint)
        for name, blob in lines:
            if name != self.name or blob[:4] != self.id:
                continue
            signature, message = blob[4:], text.encode()
            if self.kind == 4:
                if len(signature) != 72:
                    continue
                at, signature = int.from_bytes(signature[:8]), signature[8:]
                if not 0 < at < 2**63:
                    continue
                message = f"cosignature/v1\ntime {at}\n".encode() + message
            try:
                self.key.verify(signature, message)
                return True
            except InvalidSignature:
                continue
        return False

    def open(self, checkpoint):
        """Size and root of the tree that a checkpoint of this log names."""
        need(len(checkpoint.encode()) <= CHECKPOINT_BYTES_MAX and self.signs(checkpoint), "the log did not sign it")
        lines = split_note(checkpoint)[0].split("\n")
        need(len(lines) >= 4 and lines[0] == self.name, "the checkpoint is of another log")
        need(re.fullmatch(r"0|[1-9][0-9]{0,19}", lines[1]), "the size of the tree")
        root = b64(lines[2])
        need(len(root) == 32, "the root of the tree")
        return int(lines[1]), root


def opened(keys, checkpoint):
    """The tree that a checkpoint names, if one of these logs signed it."""
    for key in keys:
        try:
            return key.open(checkpoint)
        except (Wrong, ValueError):
            continue
    return None


def split_note(note):
    text, separator, signatures = note.rpartition("\n\n")
    need(separator and signatures.endswith("\n"), "it is no signed note")
    lines = []
    for line in signatures[:-1].split("\n"):
        match = re.fullmatch("\u2014 ([^ +]+) ([A-Za-z0-9+/=]+)", line)
        need(match, "it is no signed note")
        lines.append((match[1], b64(match[2])))
    return text + "\n", lines


END = re.compile(
    "aigaq succession v1\nends (.+)\nentries (0|[1-9][0-9]{0,19})\nroot ([0-9a-f]{64})\nnext (.+)\nat (.*)\nreason (.*)\n"
)


def ends(notes):
    """The ends of a log (SPEC.md section 10.3), oldest first: each signed by the key which it ends, the `next` of the one before."""
    need(len(notes.encode()) <= SUCCESSION_BYTES_MAX, "the statements are too long")
    found = []
    for note in re.split("(?<=\n)(?=aigaq succession v1\n)", notes):
        match = END.fullmatch(split_note(note)[0])
        need(match, "it is no end of a log")
        end = {"ends": match[1], "entries": int(match[2]), "root": bytes.fromhex(match[3]), "next": match[4]}
        end |= {"at": match[5], "reason": match[6]}
        need(end["entries"] < 2**64 and end["reason"] == " ".join(end["reason"].split()), "it is spelled otherwise")
        NoteKey(end["next"], 1)
        need(NoteKey(end["ends"], 1).signs(note), "the log that ends did not sign it")
        if found:
            need(found[-1]["next"] == end["ends"] and found[-1]["entries"] <= end["entries"], "an end of another log")
        found.append(end)
    return found


# --- What stands beside a header, member by member: what is not known is passed over ---------------------------------------


def is_number(value):
    return isinstance(value, int) and not isinstance(value, bool)


def is_text(value):
    return isinstance(value, str)


def is_digest(value):
    return is_text(value) and re.fullmatch("[0-9a-f]{64}", value) is not None


CONTENTS = {
    "Start": {"codecs": is_text},
    "Media": {"recording": is_number, "ordinal": is_number, "independent": lambda value: isinstance(value, bool)},
    "Mark": {"category": is_text, "note": is_text, "before_s": is_number, "after_s": is_number},
    "Health": {
        "battery_percent": is_number,
        "storage_free_bytes": is_number,
        "backlog_bytes": is_number,
        "temperature_centi": is_number,
        "firmware": is_text,
    },
    "Stop": {"recording": is_number, "cause": lambda value: value in STOPS},
    "ClockStep": {"before": is_number, "after": is_number},
    "Lost": {**dict.fromkeys(("first", "last", "from", "to"), is_number), "cause": lambda value: value in LOSSES},
}
FIX = dict.fromkeys(
    ("offset_ms", "latitude_e7", "longitude_e7", "accuracy_dm", "speed_cms", "course_cdeg"), is_number
)
SAYS = {
    "captured_at": is_text,
    "duration_us": is_number,
    "previous": is_digest,
    "payload_digest": is_digest,
    "payload_length": is_number,
}
POSITION = ("at", "corrected", "sequence", "point", "accuracy_dm", "speed_cms", "course_cdeg")
MARK = ("recorder", "at", "corrected", "sequence", "category", "note", "before_s", "after_s")
MEDIA = ("path", "recording", "segments", "from", "to", "corrected")


def members(value, form):
    need(isinstance(value, dict), "no object")
    for name, fits in form.items():
        need(name in value and fits(value[name]), name)
    return {name: value[name] for name in form}


def known(value, names):
    return {name: value[name] for name in names if value.get(name) is not None}


def read_says(says):
    read = members(says, SAYS)
    content = says["content"]
    need(isinstance(content, dict) and len(content) == 1, "content")
    ((name, fields),) = content.items()
    need(name in CONTENTS, "content")
    read["content"] = {name: members(fields, CONTENTS[name])}
    if says.get("corrected_at") is not None:
        need(is_text(says["corrected_at"]), "corrected_at")
        read["corrected_at"] = says["corrected_at"]
    if says.get("fixes"):
        read["fixes"] = [members(fix, FIX) for fix in says["fixes"]]
    return read


# --- Times and documents -------------------------------------------------------------------------------------------------

EPOCH = datetime.datetime(1970, 1, 1)


def time(at):
    try:
        shown = EPOCH + datetime.timedelta(microseconds=at)
    except OverflowError:
        shown = None
    if shown is None or at > 253_402_207_200_999_999:
        return "9999-12-30T22:00:00.999999Z"
    return shown.isoformat(timespec="microseconds") + "Z"


def micros(text):
    need(isinstance(text, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text), "a time")
    try:
        moment = datetime.datetime.fromisoformat(text[:-1])
    except ValueError:
        raise Wrong("a time") from None
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def corrected(clock, *times):
    if clock is None:
        return None
    shown = [time(max(0, at - clock["offset_us"])) for at in times]
    return shown[0] if len(shown) == 1 else shown


def pem(text, label):
    found = []
    for body in re.findall(f"-----BEGIN {label}-----(.*?)-----END {label}-----", text, re.DOTALL):
        try:
            found.append(base64.b64decode("".join(body.split())))
        except ValueError:
            continue
    return found


def certificates(text):
    found = []
    for der in pem(text, "CERTIFICATE"):
        try:
            found.append(x509.load_der_x509_certificate(der))
        except ValueError:
            continue
    return found


def spki_of(certificate):
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_key().public_bytes(*form)


def moment_of(one, name):
    """A time of a certificate or an entry of a list, UTC without a zone, whatever version of the package this is."""
    aware = getattr(one, f"{name}_utc", None)
    return getattr(one, name) if aware is None else aware.replace(tzinfo=None)


def is_issued_by(one, issuer):
    if one.issuer != issuer.subject:
        return False
    key, signature, text = issuer.public_key(), one.signature, one.tbs_certificate_bytes
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, text)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, text, ec.ECDSA(one.signature_hash_algorithm))
        else:
            key.verify(signature, text, padding.PKCS1v15(), one.signature_hash_algorithm)
        return True
    except (InvalidSignature, ValueError, TypeError):
        return False


def leads(certificate, beside, anchors, at, purpose):
    """Whether a certificate leads to an anchor at a time, for a purpose."""
    moment = EPOCH + datetime.timedelta(microseconds=at)

    def good(one):
        return moment_of(one, "not_valid_before") <= moment <= moment_of(one, "not_valid_after")

    try:
        uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        if purpose not in [use.dotted_string for use in uses]:
            return False
    except x509.ExtensionNotFound:
        if purpose != "1.3.6.1.5.5.7.3.2":
            return False

    def issued(one, depth):
        if not good(one) or depth > 6:
            return False
        above = [issuer for issuer in anchors + beside if is_issued_by(one, issuer)]
        return any(issuer in anchors or issuer != one and issued(issuer, depth + 1) for issuer in above)

    return issued(certificate, 0)


def read_entry(data):
    cursor = Cursor(data)
    need(cursor.take(1) == b"\1", "an entry of another version")
    entry = {"number": cursor.varint(64), "at": cursor.varint(64)}
    kind = cursor.varint(32)
    entry["kind"] = KINDS[kind] if kind < len(KINDS) else None
    for name in ("actor", "source", "object", "action", "reason"):
        entry[name] = cursor.text()
    if cursor.flag():
        cursor.take(32)
    entry["outcome"] = cursor.text()
    cursor.end()
    return entry


def deletion(entry):
    """Recorder and runs of a statement of a deletion: `None` for those that it does not name; nothing if it is none."""
    kind, object_, action = (entry["kind"], entry["outcome"]), entry["object"], entry["action"]
    if kind == ("deletion", "hidden") and object_ == "" and re.fullmatch(r"hide day \d+", action):
        return None, None, 0
    if not re.fullmatch("[0-9a-f]{32}", object_):
        return None
    if kind == ("key-destruction", "destroyed") and re.match(r"destroy the key of footage day \d+:", action):
        return object_, None, 0
    if kind == ("deletion", "deleted"):
        form = r"delete day \d+, \d+ links of \d+ bytes, sequences ([0-9,-]*)(?: and (\d+) more runs)?, kept by .*, links sha256 "
        match = re.match(form, action, re.DOTALL)
        if match:
            runs = [[int(end) for end in run.split("-")] for run in match[1].split(",") if run]
            return object_, [(run[0], run[-1]) for run in runs], int(match[2] or 0)
    return None


# --- The bundle ----------------------------------------------------------------------------------------------------------


class Recorder:
    """What is found of one recorder."""

    def __init__(self):
        self.findings, self.links, self.good, self.unsigned = [], 0, 0, 0

    def find(self, what, sequence):
        self.findings.append((what, sequence))

    def verdict(self):
        worst = max((VERDICTS.index(WEIGHS.get(what, "not-authentic")) for what, _ in self.findings), default=0)
        if self.unsigned and self.good:
            worst = 4
        return VERDICTS[worst]


class Bundle:
    def __init__(self, path, trust):
        self.source = Directory(path) if os.path.isdir(path) else Zip(path)
        self.trust, self.faults, self.recorders = trust, [], {}
        self.compared = set()

    def fault(self, path, what):
        if (path, what) not in self.faults:
            self.faults.append((path, what))

    def is_broken(self, path):
        return any((path, what) in self.faults for what in ("altered", "missing", "unreadable"))

    # Bytes, always compared with the manifest when they are gone through.

    def pieces(self, path):
        file, start = self.source.open(path)
        with file:
            file.seek(start)
            left = self.source.files[path][1]
            while left:
                piece = file.read(min(left, 1 << 20))
                if not piece:
                    raise Unreadable("a file ends too early")
                left -= len(piece)
                yield piece

    def compare(self, path, digest):
        self.compared.add(path)
        if path in self.named and self.named[path]["sha256"] != digest:
            self.fault(path, "altered")

    def whole(self, path, limit, absent_is_fault=True):
        if path not in self.source.files:
            if absent_is_fault:
                self.fault(path, "missing")
            return b""
        if self.source.files[path][1] > limit:
            raise Unreadable(f"{path} is too long")
        data = b"".join(self.pieces(path))
        self.compare(path, hashlib.sha256(data).hexdigest())
        return data

    def lines(self, path):
        digest, pending = hashlib.sha256(), b""
        for piece in self.pieces(path):
            digest.update(piece)
            *lines, pending = (pending + piece).split(b"\n")
            if max(map(len, [*lines, pending])) > LINE_BYTES_MAX + (1 << 20):
                raise Unreadable("a line is too long")
            yield from (line for line in lines if line)
        if pending:
            yield pending
        self.compare(path, digest.hexdigest())

    # The whole.

    def verify(self):
        self.manifest()
        self.names()
        self.checkpoint()
        self.stamps()
        self.range = micros(self.told["requested"]["from"]), micros(self.told["requested"]["to"])
        self.gaps()
        self.custody()
        marks = {}
        for recorder in self.ids():
            marks[recorder] = Chain(self, recorder).walk()
        self.marks(marks)
        for path in sorted(self.named):
            if path in self.compared:
                continue
            if path not in self.source.files:
                self.fault(path, "missing")
                continue
            if path.split("/")[0] in ("media", "forks", "quarantine"):
                self.fault(path, "uncovered")
            digest = hashlib.sha256()
            for piece in self.pieces(path):
                digest.update(piece)
            self.compare(path, digest.hexdigest())
        each = [VERDICTS.index(one.verdict()) for one in self.recorders.values()]
        return "not-authentic" if self.faults else VERDICTS[max(each, default=4)]

    def manifest(self):
        if "manifest.json" not in self.source.files:
            raise Unreadable("there is no manifest.json: this is no bundle")
        self.named = {}
        self.text = self.whole("manifest.json", DOCUMENT_BYTES_MAX)
        try:
            self.told = json.loads(self.text)
            need(self.told["format"] == FORMAT, "the format")
            for file in self.told["files"]:
                path = file["path"]
                need(is_plain(path) and path not in UNNAMED and path not in self.named, f"the path {path!r}")
                need(re.fullmatch("[0-9a-f]{64}", file["sha256"]) and file["bytes"] >= 0, "a file")
                self.named[path] = file
            need(len(self.named) <= FILES_MAX and len(self.told["delivered"]) <= RECORDERS_MAX, "too much")
            need(len(self.told["requested"]["recorders"]) <= RECORDERS_MAX, "too many recorders")
            for name in ("from", "to"):
                micros(self.told["requested"][name])
            micros(self.told["created_at"])
            delivered = self.told["delivered"]
            self.delivered = {one["recorder"]: one for one in reversed(delivered)}
            for one in delivered:
                need(re.fullmatch("[0-9a-f]{32}", one["recorder"]) and isinstance(one["media"], list), "delivered")
        except (ValueError, KeyError, TypeError, AttributeError, Wrong) as error:
            raise Unreadable(f"manifest.json does not read: {error}") from None
        if sorted(one["recorder"] for one in delivered) != sorted(set(map(str, self.told["requested"]["recorders"]))) or len(
            delivered
        ) != len(self.told["requested"]["recorders"]):
            self.fault("manifest.json", "contradicts")

    def names(self):
        for path, file in self.named.items():
            if path in self.source.files and self.source.files[path][1] != file["bytes"]:
                self.fault(path, "altered")
        for path in self.source.files:
            if path not in self.named and path not in UNNAMED:
                self.fault(path, "not-named")
        for path in MUST:
            if path not in self.named:
                self.fault(path, "missing")
        chain = certificates(self.whole("certs/exporter.pem", SMALL_BYTES_MAX).decode(errors="replace"))
        try:
            signature = self.whole("manifest.sig", SMALL_BYTES_MAX)
            chain[0].public_key().verify(signature, self.text, ec.ECDSA(hashes.SHA256()))
        except (IndexError, InvalidSignature, ValueError, TypeError, AttributeError):
            self.fault("manifest.json", "bad-signature")
        if self.trust:
            at = micros(self.told["created_at"])
            if not chain or not leads(chain[0], chain, self.trust.anchors, at, "1.3.6.1.5.5.7.3.36"):
                self.fault("certs/exporter.pem", "not-trusted")
        sums = self.whole("SHA256SUMS", DOCUMENT_BYTES_MAX).decode(errors="replace")
        should = {path: file["sha256"] for path, file in self.named.items()}
        should["manifest.json"] = hashlib.sha256(self.text).hexdigest()
        said = [line.partition("  ") for line in sums.splitlines(keepends=True)]
        if sorted((path, digest) for digest, _, path in said) != sorted((f"{p}\n", d) for p, d in should.items()):
            self.fault("SHA256SUMS", "contradicts")

    def checkpoint(self):
        told = self.whole("log/key.txt", SMALL_BYTES_MAX).decode(errors="replace").strip()
        if told != self.told["log"]:
            self.fault("log/key.txt", "contradicts")
        self.ended = self.ends()
        logs = [self.told["log"], *(end["ends"] for end in self.ended)]
        if self.trust and not any(log in self.trust.logs for log in logs):
            self.fault("log/key.txt", "not-trusted")
        text = self.whole("log/checkpoint", SMALL_BYTES_MAX).decode(errors="replace")
        self.log, self.tree, self.witnessed, keys = None, None, True, []
        for vkey in (self.told["log"], told):
            try:
                keys.append(NoteKey(vkey, 1))
            except (Wrong, ValueError):
                continue
        try:
            self.log = NoteKey(self.told["log"], 1)
        except (Wrong, ValueError):
            pass
        self.tree = opened(keys, text)
        if not self.tree:
            self.fault("log/checkpoint", "bad-signature")
            for path in sorted(path for path in self.source.files if path.startswith("proofs/"))[:16]:
                if self.source.files[path][1] > SMALL_BYTES_MAX:
                    raise Unreadable(f"{path} is too long")
                _, blank, copy = b"".join(self.pieces(path)).decode(errors="replace").partition("\n\n")
                if blank and opened(keys, copy):
                    self.tree, text = opened(keys, copy), copy
                    break
        if self.tree and self.ended:
            (size, root), end = self.tree, self.ended[-1]
            if end["entries"] > size or (end["entries"] == size and end["root"] != root):
                self.fault("log/succession", "contradicts")
        if self.trust:
            count = 0
            for witness in self.trust.witnesses:
                try:
                    count += witness.signs(text)
                except Wrong:
                    pass
            self.witnessed = count >= self.trust.quorum

    def ends(self):
        """The logs that ended before this one; none where what says so does not hold, or leads elsewhere."""
        if "log/succession" not in self.source.files:
            return []
        try:
            found = ends(self.whole("log/succession", SMALL_BYTES_MAX).decode(errors="replace"))
            need(found[-1]["next"] == self.told["log"], "it leads elsewhere")
            return found
        except (Wrong, ValueError):
            self.fault("log/succession", "bad-signature")
            return []

    def stamps(self):
        """The checkpoints of time stamps, and that the log continues them. Tokens are for `openssl ts`: they weigh nothing."""
        for path in [path for path in self.named if re.fullmatch(r"timestamps/\d+\.tsr", path)][:16]:
            size = int(path[11:-4])
            checkpoint = self.whole(f"timestamps/{size}.checkpoint", SMALL_BYTES_MAX, False).decode(errors="replace")
            proof = self.whole(f"timestamps/{size}.consistency", SMALL_BYTES_MAX, False).decode(errors="replace")
            try:
                of, root = self.log.open(checkpoint)
                need(of == size, "another size")
            except (Wrong, AttributeError):
                self.fault(f"timestamps/{size}.checkpoint", "bad-signature")
                continue
            try:
                continues = self.tree and consistent(size, root, *self.tree, [b64(line) for line in proof.splitlines()])
            except Wrong:
                continues = False
            if not continues:
                self.fault(f"timestamps/{size}.consistency", "contradicts")

    def proven(self, digest, at, index, proof):
        hashes_ = [b64(step) for step in proof]
        return all(len(step) == 32 for step in hashes_) and (
            root_of(leaf_hash(digest, at), index, self.tree[0], hashes_) == self.tree[1]
        )

    def ids(self):
        found = set(self.delivered)
        found |= {m[1] for m in (re.fullmatch(r"chain/([0-9a-f]{32})\.jsonl", path) for path in self.named) if m}
        if len(found) > RECORDERS_MAX:
            raise Unreadable("too many recorders")
        return sorted(found)

    def gaps(self):
        self.declared = {}
        if "gaps.json" not in self.source.files:
            return
        data = self.whole("gaps.json", DOCUMENT_BYTES_MAX)
        try:
            for one in json.loads(data)["recorders"]:
                gaps = [read_gap(gap) for gap in one["gaps"]]
                if one["recorder"] in self.declared or one["recorder"] not in self.told["requested"]["recorders"]:
                    self.fault("gaps.json", "contradicts")
                self.declared[one["recorder"]] = (gaps, one.get("unproven_from"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Wrong):
            self.fault("gaps.json", "unreadable")
            self.declared = {}

    def custody(self):
        self.statements, before, unproven, last_index, count = {}, (0, 0), False, -1, 0
        self.unclear = "custody.jsonl" not in self.source.files
        if self.unclear:
            return
        asked = self.told["requested"]["recorders"]
        for line in self.lines("custody.jsonl"):
            count += 1
            try:
                line = json.loads(line)
                data = b64(line["entry"])
                entry = read_entry(data)
                index, proof = line.get("log_index"), line.get("proof") or []
                said = [line[name] for name in ("at", "actor", "source", "action", "reason", "outcome")]
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Wrong):
                self.fault("custody.jsonl", "unreadable")
                continue
            states = deletion(entry)
            concerns = any(id_ in entry["object"] or id_ in entry["action"] for id_ in asked)
            concerns = concerns or (states is not None and states[0] is None)
            should = [time(entry["at"])] + [entry[n] for n in ("actor", "source", "action", "reason", "outcome")]
            ordered = entry["number"] > before[0] and entry["at"] >= before[1]
            before = (entry["number"], entry["at"])
            rises = index is None or (not unproven and index > last_index)
            unproven, last_index = unproven or index is None, last_index if index is None else index
            if said != should or not concerns or not ordered or not rises or count > CUSTODY_MAX:
                self.fault("custody.jsonl", "contradicts")
            elif index is not None and self.tree:
                digest = sha256(b"aigaq/1 statement\n" + data)
                try:
                    proven = self.proven(digest, entry["at"], index, proof)
                except Wrong:
                    proven = False
                if not proven:
                    self.fault("custody.jsonl", "not-proven")
                elif states is not None:
                    self.statements[index] = states
        self.unclear = any(path == "custody.jsonl" for path, _ in self.faults)

    def stated(self, statement, recorder, sequence):
        """Whether a statement says that a payload is gone: `None` if none is named."""
        if statement is None:
            return None
        if statement not in self.statements:
            return self.unclear
        of, runs, more = self.statements[statement]
        if of not in (None, recorder):
            return self.unclear
        if runs is None or sequence is None:
            return True
        named = any(first <= sequence <= last for first, last in runs)
        return named or (more > 0 and (not runs or runs[-1][1] < sequence)) or self.unclear

    def array(self, path):
        if path not in self.source.files:
            self.fault(path, "missing")
            return None
        data = b"".join(self.pieces(path))
        self.compare(path, hashlib.sha256(data).hexdigest())
        try:
            values = json.loads(data)
            need(isinstance(values, list) and all(isinstance(one, dict) for one in values), "no array")
            return values
        except (ValueError, RecursionError, Wrong):
            self.fault(path, "unreadable")
            return None

    def marks(self, marks):
        if "markers.json" not in self.source.files:
            return
        said = self.array("markers.json")
        if said is None or self.is_broken("markers.json"):
            return
        strange = any(mark.get("recorder") not in marks for mark in said)
        for recorder, (should, clear) in marks.items():
            strange = strange or clear and [
                known(mark, MARK) for mark in said if mark.get("recorder") == recorder
            ] != should
        if strange:
            self.fault("markers.json", "contradicts")


def read_gap(gap):
    runs = [(run["first"], run["last"]) for run in gap.get("missing", [])]
    need(all(first <= last for first, last in runs), "runs")
    need(sum(last - first + 1 for first, last in runs) <= gap.get("missing_count", 0), "missing_count")
    need(gap["cause"] in CAUSES and gap.get("stop") in [None, *STOPS] and gap.get("loss") in [None, *LOSSES], "a cause")
    both = gap.get("corrected")
    need(both is None or [time(micros(at)) for at in both] == both, "corrected")
    return {
        "from": micros(gap["from"]),
        "to": micros(gap["to"]),
        "corrected": both,
        "cause": gap["cause"],
        "stop": gap.get("stop"),
        "loss": gap.get("loss"),
        "missing": runs,
    }


CAUSES = (
    "off not-uploaded lost-on-device lost-with-restore rejected deleted-by-policy clock-step before-first pending unknown damaged"
).split()


class Chain:
    """The lines of one recorder."""

    def __init__(self, bundle, recorder):
        self.bundle, self.recorder = bundle, recorder
        self.path = f"chain/{recorder}.jsonl"
        self.found = Recorder()
        self.keys, self.used, self.clear = [], {}, True
        self.before = None
        self.missing, self.lost = [], []
        self.positions, self.marks, self.films, self.sequences = [], [], {}, []
        self.there, self.bounds, self.deleted, self.damaged, self.stops = [], [], [], [], []
        self.steps, self.clock = False, None
        self.reached, self.covered, self.is_wrong = {}, {}, set()
        self.open = {}

    def walk(self):
        bundle = self.bundle
        pem_text = bundle.whole(f"certs/{self.recorder}.pem", SMALL_BYTES_MAX).decode(errors="replace")
        self.certificates = certificates(pem_text)
        listed = bundle.whole(f"certs/{self.recorder}.keys.pem", SMALL_BYTES_MAX, False).decode(errors="replace")
        for spki in pem(listed, "PUBLIC KEY") + [spki_of(one) for one in self.certificates]:
            try:
                self.keys.append((hashlib.sha256(spki).hexdigest(), load_key(spki)))
            except (Wrong, ValueError):
                continue
        pattern = re.compile(rf"proofs/{self.recorder}-(\d+)\.tlog-proof")
        self.proofs = {int(m[1]): m[0] for m in map(pattern.fullmatch, bundle.named) if m}
        if self.path not in bundle.source.files:
            bundle.fault(self.path, "missing")
            return [], False
        bundle.recorders[self.recorder] = self.found
        for text in bundle.lines(self.path):
            try:
                line = json.loads(text)
                sort = line["type"]
                need(sort in ("link", "fork", "quarantined"), "no such line")
                read = self.members(line, sort)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, Wrong):
                bundle.fault(self.path, "unreadable")
                self.clear = False
                continue
            if sort == "quarantined":
                self.quarantined(line)
            else:
                self.link(line, sort == "fork", *read)
        self.clear = self.clear and not bundle.is_broken(self.path)
        self.finish()
        return self.marks, self.clear

    @staticmethod
    def members(line, sort):
        payload = line["payload"]
        need(payload["at"] in ("none", "file", "line", "deleted", "outside", "damaged"), "payload")
        if payload["at"] == "file":
            need(isinstance(payload["path"], str) and payload["offset"] >= 0 and payload["length"] >= 0, "payload")
        if payload["at"] == "line":
            payload["bytes"] = b64(payload["bytes"])
        header, signature = b64(line["header"]), b64(line["signature"])
        need(isinstance(line["received_at"], int) and 0 <= line["received_at"] < 2**64, "received_at")
        if sort == "quarantined":
            need(isinstance(line["reason"], str) and re.fullmatch("[0-9a-f]{64}", line["payload_digest"]), "quarantined")
            return None
        need(all(isinstance(line[name], int) and line[name] >= 0 for name in ("sequence", "log_index")), "numbers")
        need(re.fullmatch("[0-9a-f]{64}", line["digest"]), "digest")
        need(len(line["proof"]) <= PROOF_HASHES_MAX, "proof")
        line["says"] = read_says(line["says"])
        for step in line["proof"]:
            need(len(b64(step)) == 32, "no hash")
        clock = line.get("clock")
        need(clock is None or isinstance(clock["offset_us"], int) and isinstance(clock["error_us"], int), "clock")
        return header, signature, clock

    def payload(self, path, offset, length, digest, wanted):
        """Whether the bytes are right and where the line says, and none if the file is not there.

        A payload lies where the one before it ended; where it does not, the line is asked.
        """
        bundle = self.bundle
        if not re.match(rf"(media|forks|quarantine)/{self.recorder}/", path):
            bundle.fault(path, "contradicts")
            return None
        if path not in bundle.source.files:
            bundle.fault(path, "missing")
            return None
        size, reached = bundle.source.files[path][1], self.reached.setdefault(path, 0)
        for at in (reached, offset):
            if at + wanted > size or self.digest_of(path, at, wanted) != digest:
                continue
            if at < reached:
                bundle.fault(path, "uncovered")
                self.is_wrong.add(path)
            else:
                self.reached[path] = at + wanted
                self.covered[path] = self.covered.get(path, 0) + wanted
            return "right" if (at, wanted) == (offset, length) else "elsewhere"
        self.is_wrong.add(path)
        return "wrong"

    def digest_of(self, path, offset, length):
        if path not in self.open:
            if len(self.open) > 16:
                self.open.popitem()[1][0].close()
            self.open[path] = self.bundle.source.open(path)
        file, start = self.open[path]
        file.seek(start + offset)
        hashed, left = hashlib.sha256(), length
        while left:
            piece = file.read(min(left, 1 << 20))
            if not piece:
                raise Unreadable("a file ends too early")
            hashed.update(piece)
            left -= len(piece)
        return hashed.digest()

    def quarantined(self, line):
        place = line["payload"]
        if place["at"] == "file":
            digest = bytes.fromhex(line["payload_digest"])
            if self.payload(place["path"], place["offset"], place["length"], digest, place["length"]) in (None, "wrong"):
                self.bundle.fault(place["path"], "contradicts")
        elif place["at"] == "deleted" and self.bundle.stated(place.get("statement"), self.recorder, None) is False:
            self.bundle.fault(self.path, "contradicts")

    def link(self, line, is_fork, raw, signature, clock):
        bundle, found, sequence, place = self.bundle, self.found, line["sequence"], line["payload"]
        found.links += 1
        digest = link_digest(raw)
        try:
            header = read_header(raw)
        except Wrong:
            header = None
        agrees = header is not None and self.says(header, clock) == line["says"]
        named = header is not None and header["sequence"] == sequence
        sound = agrees and named and digest.hex() == line["digest"]
        inside = header is not None and header["captured_at"] < self.bundle.range[1] and (
            header["captured_at"] >= self.bundle.range[0] or header["end"] > self.bundle.range[0]
        )
        key = next((id_ for id_, key in self.keys if signed(key, digest, signature)), None)
        found.good += key is not None
        what = None
        if header is not None and header["recorder"] != self.recorder:
            what = "spliced"
        elif header is not None and not named and key:
            what = "swapped"
        elif not sound:
            what = "altered-header"
        elif signature == bytes(len(signature)):
            what, found.unsigned = "unsigned", found.unsigned + 1
        elif key is None:
            what = "bad-signature"
        if key and what is None and line.get("key") != key:
            what = "altered-header"
        refuted = False
        if not bundle.tree or not bundle.witnessed:
            found.find("not-yet-witnessed", sequence)
        if bundle.tree:
            refuted = not bundle.proven(bytes.fromhex(line["digest"]), line["received_at"], line["log_index"], line["proof"])
            if refuted:
                found.find("not-in-log", sequence)
        if what:
            found.find(what, sequence)
        if key:
            first, last = self.used.get(key, (line["received_at"], line["received_at"]))
            self.used[key] = min(first, line["received_at"]), max(last, line["received_at"])
        good = what is None and not refuted
        state = self.state(line, header, is_fork, inside)
        if is_fork:
            if good:
                found.find("fork", sequence)
            return
        self.clear = self.clear and sound
        self.order(sequence, digest, header, good, inside)
        if sound:
            self.note(line, header, clock, state, inside)
        if sequence in self.proofs and sound:
            self.proof(line)

    def says(self, header, clock):
        says = {
            "captured_at": time(header["captured_at"]),
            "duration_us": header["duration_us"],
            "previous": header["previous"].hex(),
            "payload_digest": header["payload_digest"].hex(),
            "payload_length": header["payload_length"],
            "content": {header["name"]: header["fields"]},
        }
        if clock:
            says["corrected_at"] = corrected(clock, header["captured_at"])
        if header["fixes"]:
            says["fixes"] = header["fixes"]
        return says

    def state(self, line, header, is_fork, inside):
        """What is there of the payload; what is wrong with it is found."""
        place, found, sequence = line["payload"], self.found, line["sequence"]
        if place["at"] == "deleted":
            stated = self.bundle.stated(place.get("statement"), self.recorder, None if is_fork else sequence)
            if stated is False:
                self.bundle.fault(self.path, "contradicts")
            found.find("deleted" if stated else "deletion-unproved", sequence)
            return "deleted"
        if place["at"] == "damaged":
            found.find("damaged", sequence)
            return "damaged"
        if header is None:
            return "absent"
        if place["at"] == "line":
            if sha256(place["bytes"]) != header["payload_digest"]:
                found.find("altered-payload", sequence)
            return "present"
        if place["at"] == "file":
            digest, length = header["payload_digest"], header["payload_length"]
            right = self.payload(place["path"], place["offset"], place["length"], digest, length)
            if right is None:
                found.find("damaged", sequence)
                return "damaged"
            if right != "right":
                found.find("altered-payload" if right == "wrong" else "altered-header", sequence)
            return "present"
        if inside and header["name"] == "Media":
            found.find("dropped", sequence)
        return "absent"

    def order(self, sequence, digest, header, good, inside):
        found, before = self.found, self.before
        if before is None:
            if inside and sequence > 0:
                self.missing.append((sequence - 1, sequence - 1))
        elif sequence <= before["sequence"]:
            found.find("duplicate" if sequence == before["sequence"] and digest == before["digest"] else "swapped", sequence)
            return
        elif sequence == before["sequence"] + 1:
            if header and header["previous"] != before["digest"] and good and before["good"]:
                found.find("broken", sequence)
        elif before["inside"] and inside:
            self.missing.append((before["sequence"] + 1, sequence - 1))
        elif before["inside"]:
            self.missing.append((before["sequence"] + 1, before["sequence"] + 1))
        elif inside:
            self.missing.append((sequence - 1, sequence - 1))
        if header and header["name"] == "Lost" and good:
            self.lost.append(header["fields"])
        stops = header is not None and header["name"] == "Stop"
        self.before = {"sequence": sequence, "digest": digest, "good": good, "inside": inside, "stops": stops}

    def note(self, line, header, clock, state, inside):
        sequence, at, name = header["sequence"], header["captured_at"], header["name"]
        self.sequences.append(sequence)
        if name == "Media":
            if state == "present":
                self.there.append((at, header["end"]))
            else:
                self.bounds += [at, header["end"]]
                {"deleted": self.deleted, "damaged": self.damaged}.get(state, []).append((at, header["end"]))
            if line["payload"]["at"] == "file":
                film = self.films.setdefault(header["fields"]["recording"], [line["payload"]["path"], 0, at, header["end"], clock])
                film[1:4] = film[1] + 1, min(film[2], at), max(film[3], header["end"])
        elif name in ("Start", "Stop"):
            self.bounds.append(at)
            if name == "Stop":
                self.stops.append((at, header["fields"]["cause"]))
        self.steps = self.steps or name == "ClockStep"
        if not inside:
            return
        self.clock = self.clock or clock
        for fix in header["fixes"]:
            moment = at + 1_000 * fix["offset_ms"]
            position = {"at": time(moment), "sequence": sequence}
            position["point"] = f"POINT({degrees(fix['longitude_e7'])} {degrees(fix['latitude_e7'])})"
            if clock:
                position["corrected"] = corrected(clock, moment)
            for name_ in ("accuracy_dm", "speed_cms", "course_cdeg"):
                if fix[name_] != 65_535:
                    position[name_] = fix[name_]
            self.positions.append(position)
        if name == "Mark":
            mark = {"recorder": self.recorder, "at": time(at), "sequence": sequence, **header["fields"]}
            if clock:
                mark["corrected"] = corrected(clock, at)
            self.marks.append(mark)

    def proof(self, line):
        path = self.proofs.pop(line["sequence"])
        if path not in self.bundle.source.files:
            return
        text = self.bundle.whole(path, SMALL_BYTES_MAX).decode(errors="replace")
        if not self.bundle.tree:
            return
        head, _, checkpoint = text.partition("\n\n")
        lines = head.split("\n")
        try:
            need(lines[:2] == ["c2sp.org/tlog-proof@v1", f"index {line['log_index']}"], "another proof")
            need(self.bundle.log.open(checkpoint) == self.bundle.tree, "another tree")
            digest = bytes.fromhex(line["digest"])
            need(self.bundle.proven(digest, line["received_at"], line["log_index"], lines[2:]), "not proven")
        except Wrong:
            self.bundle.fault(path, "not-proven")

    def finish(self):
        bundle, found = self.bundle, self.found
        if self.before and self.before["inside"] and not self.before["stops"]:
            found.find("unproved-tail", self.before["sequence"])
        for first, last in self.missing:
            stated = any(lost["first"] <= first and last <= lost["last"] for lost in self.lost)
            found.find("lost-on-device" if stated else "dropped", first)
        gaps, unproven = bundle.declared.get(self.recorder, ([], None))
        if gaps:
            found.find("gap", 0)
        for file, _ in self.open.values():
            file.close()
        for path in self.reached:
            if path not in self.is_wrong and self.covered.get(path, 0) != bundle.source.files[path][1]:
                bundle.fault(path, "uncovered")
            digest = hashlib.sha256()
            for piece in bundle.pieces(path):
                digest.update(piece)
            bundle.compare(path, digest.hexdigest())
        self.tell()
        if self.clear:
            for path in self.proofs.values():
                bundle.fault(path, "contradicts")
            self.delivered()
            if not bundle.is_broken("gaps.json"):
                for fault in self.holes(gaps, unproven):
                    bundle.fault("gaps.json", fault)
        if bundle.trust:
            self.trusted()

    def tell(self):
        path = f"track/{self.recorder}.json"
        said = self.bundle.array(path)
        if self.clear and said is not None and not self.bundle.is_broken(path):
            if [known(position, POSITION) for position in said] != self.positions:
                self.bundle.fault(path, "contradicts")

    def delivered(self):
        one = self.bundle.delivered.get(self.recorder, {"sequences": None, "media": None})
        media = []
        for recording, (path, segments, begin, end, clock) in sorted(self.films.items()):
            film = {"path": path, "recording": recording, "segments": segments, "from": time(begin), "to": time(end)}
            if clock:
                film["corrected"] = corrected(clock, begin, end)
            media.append(film)
        ends = [min(self.sequences), max(self.sequences)] if self.sequences else None
        said = one["media"] and [known(film, MEDIA) for film in one["media"]]
        if one["sequences"] != ends or (said or []) != media:
            self.bundle.fault("manifest.json", "contradicts")

    def holes(self, gaps, unproven):
        begin, end = self.bundle.range
        there, deleted, damaged = joined(self.there), joined(self.deleted), joined(self.damaged)
        present, before, faults = set(self.sequences), begin, set()
        whole = not self.sequences or len(present) == max(present) - min(present) + 1
        for gap in gaps:
            if gap["from"] >= gap["to"] or gap["from"] < before or gap["to"] > end:
                faults.add("contradicts")
            before = max(before, gap["from"])
            at_edge, cause = gap["from"] == begin, gap["cause"]
            starts = self.bounds + [span[0] for span in there]
            lost = any(
                lost["first"] <= last and first <= lost["last"] and lost["cause"] == gap["loss"]
                for first, last in gap["missing"]
                for lost in self.lost
            )
            holds = {
                "off": gap["stop"] is not None,
                "lost-on-device": lost,
                "deleted-by-policy": within(gap, deleted),
                "damaged": within(gap, damaged) or not whole,
                "clock-step": self.steps or at_edge,
                "before-first": at_edge and min(starts, default=gap["to"]) + JITTER_US >= gap["to"],
            }.get(cause, True)
            stopped = gap["stop"] is None or any(
                said == gap["stop"] and at <= gap["to"] and (at_edge or at >= gap["from"] - DURATION_US_MAX)
                for at, said in self.stops
            )
            footage = cause != "damaged" and any(
                span[0] + JITTER_US < gap["to"] and span[1] > gap["from"] + JITTER_US for span in there
            )
            a_link = any(first <= sequence <= last for first, last in gap["missing"] for sequence in present)
            clock = corrected(self.clock, gap["from"], gap["to"])
            lies = (gap["loss"] is None) != (cause != "lost-on-device") or gap["corrected"] != clock
            if not holds or not stopped or footage or a_link or lies:
                faults.add("false-gap")
        known = begin
        for edge in sorted(there + [(at, at) for at in self.bounds] + [(end, end)]):
            hole = (known, min(edge[0], end))
            known = max(known, edge[1])
            if hole[1] > hole[0] + JITTER_US and not covered(hole, gaps):
                faults.add("undeclared-gap")
        dangling = gaps and gaps[-1]["to"] == end and gaps[-1]["cause"] in ("pending", "not-uploaded")
        should = time(gaps[-1]["from"]) if dangling else None
        if should != unproven:
            faults.add("undeclared-gap" if unproven is None else "false-gap")
        return faults

    def trusted(self):
        bundle, path = self.bundle, f"certs/{self.recorder}.pem"
        revoked = {}
        for name in [name for name in bundle.named if name.startswith("crl/")][:64]:
            try:
                crl = x509.load_der_x509_crl(bundle.whole(name, DOCUMENT_BYTES_MAX))
            except ValueError:
                continue
            issuers = [one for one in self.certificates + bundle.trust.anchors if one.subject == crl.issuer]
            if not any(crl.is_signature_valid(one.public_key()) for one in issuers):
                continue
            for one in self.certificates:
                entry = crl.get_revoked_certificate_by_serial_number(one.serial_number)
                if one.issuer == crl.issuer and entry:
                    at = (moment_of(entry, "revocation_date") - EPOCH) // datetime.timedelta(microseconds=1)
                    key = hashlib.sha256(spki_of(one)).hexdigest()
                    revoked[key] = min(at, revoked.get(key, at))
        for key, (first, last) in self.used.items():
            own = [one for one in self.certificates if hashlib.sha256(spki_of(one)).hexdigest() == key]
            for at in (first, last):
                if not any(leads(one, self.certificates, bundle.trust.anchors, at, "1.3.6.1.5.5.7.3.2") for one in own):
                    bundle.fault(path, "not-trusted")
            if key in revoked and revoked[key] <= last:
                bundle.fault(path, "revoked")


def degrees(e7):
    return f"{'-' if e7 < 0 else ''}{abs(e7) // 10_000_000}.{abs(e7) % 10_000_000:07d}"


def joined(spans):
    found = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1] + JITTER_US:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def within(gap, spans):
    return any(begin <= gap["from"] + JITTER_US and gap["to"] <= end + JITTER_US for begin, end in spans)


def covered(hole, gaps):
    known = hole[0]
    for gap in gaps:
        if gap["to"] > hole[0] and gap["from"] < hole[1]:
            if gap["from"] > known + JITTER_US:
                return False
            known = max(known, gap["to"])
    return known + JITTER_US >= hole[1]


class Trust:
    """What the one who checks brings along: `logs`, `anchors`, and maybe `witnesses` with a `quorum`, in TOML."""

    def __init__(self, path):
        import tomllib

        with open(path, "rb") as file:
            told = tomllib.load(file)
        self.logs = told["logs"]
        self.anchors = []
        for name in told["anchors"]:
            with open(os.path.join(os.path.dirname(path), name), encoding="ascii") as file:
                self.anchors += certificates(file.read())
        self.witnesses = [NoteKey(vkey, 4) for vkey in told.get("witnesses", [])]
        self.quorum = told.get("quorum", 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("bundle")
    parser.add_argument("--trust")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        bundle = Bundle(args.bundle, Trust(args.trust) if args.trust else None)
        verdict = bundle.verify()
    except Exception as error:  # Whatever it is, it is no verdict: the code of a crash would be that of one.
        print(f"cannot read it: {type(error).__name__}: {error}", file=sys.stderr)
        return 5
    if args.json:
        recorders = {
            id_: {"verdict": one.verdict(), "links": one.links, "findings": one.findings}
            for id_, one in bundle.recorders.items()
        }
        print(json.dumps({"verdict": verdict, "recorders": recorders, "files": sorted(bundle.faults)}))
    else:
        print(verdict)
        for end in bundle.ended:
            print(f"the log {end['ends']} ended at {end['at']} with {end['entries']} entries, and this one goes on: {end['reason']}")
        for id_, one in bundle.recorders.items():
            print(f"{id_}: {one.verdict()}, {one.links} links")
            for what, sequence in one.findings:
                print(f"  link {sequence}: {what}")
        for path, what in bundle.faults:
            print(f"{path}: {what}")
    return EXIT[verdict]


if __name__ == "__main__":
    sys.exit(main())
