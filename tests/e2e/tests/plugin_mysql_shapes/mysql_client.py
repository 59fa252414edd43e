"""A client that says every command of the protocol, packet by packet; PyMySQL does the login."""

import struct

from pymysql.connections import Connection
from pymysql.constants import COMMAND

SESSION_TRACK, DEPRECATE_EOF, OPTIONAL_METADATA = 1 << 23, 1 << 24, 1 << 25
MULTI_STATEMENTS, PS_MULTI_RESULTS = 1 << 16, 1 << 18

RESET_CONNECTION = 0x1F

# Flags of a server's status.
MORE_RESULTS, CURSOR, LAST_ROW, OUT_PARAMETERS = 0x08, 0x40, 0x80, 0x1000

# Types of parameters.
DOUBLE, NULL, LONGLONG, BLOB, STRING = 5, 6, 8, 0xFC, 0xFD

# The value of a parameter that is sent by commands of its own.
LONG = object()


def lenenc(number):
    if number < 251:
        return bytes([number])
    if number < 1 << 16:
        return b"\xfc" + struct.pack("<H", number)
    if number < 1 << 24:
        return b"\xfd" + struct.pack("<I", number)[:3]
    return b"\xfe" + struct.pack("<Q", number)


def read_lenenc(data, at):
    """The number at a place, and the place behind it."""
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(data[at])
    if size is None:
        return data[at], at + 1
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def encoded(value):
    """The type of a parameter, and its value in binary."""
    if value is None:
        return NULL, b""
    if value is LONG:
        return BLOB, b""
    if isinstance(value, int):
        return LONGLONG, struct.pack("<q", value)
    if isinstance(value, float):
        return DOUBLE, struct.pack("<d", value)
    text = value.encode() if isinstance(value, str) else value
    return STRING, lenenc(len(text)) + text


class Client(Connection):
    """A connection; `flags` are capabilities besides what PyMySQL says of itself."""

    def __init__(self, flags=0, **more):
        self.deprecates_eof = bool(flags & DEPRECATE_EOF)
        self.has_metadata_flag = bool(flags & OPTIONAL_METADATA)
        super().__init__(
            client_flag=flags | MULTI_STATEMENTS | PS_MULTI_RESULTS,
            charset="utf8mb4",
            autocommit=None,
            **more,
        )

    def packet(self):
        return self._read_packet().get_all_data()

    def command(self, code, payload=b""):
        self._execute_command(code, payload)

    def ask(self, code, payload=b""):
        """Says a command that is answered by an OK or results, and returns all of them."""
        self.command(code, payload)
        return self.results()

    def sql(self, text):
        """The results of a text: for each its rows, or how many were affected."""
        return self.ask(COMMAND.COM_QUERY, text)

    def results(self):
        results, status = [], MORE_RESULTS
        while status & MORE_RESULTS:
            data = self.packet()
            if data[0] == 0xFB:
                self.send_file(data[1:])
                data = self.packet()
            result, status = self.okay(data) if data[0] == 0 else self.result_set(data)
            results.append(result)
        return results

    def okay(self, data):
        affected, at = read_lenenc(data, 1)
        _, at = read_lenenc(data, at)
        return affected, struct.unpack_from("<H", data, at)[0]

    def is_end(self, data):
        limit = 0xFFFFFF if self.deprecates_eof else 9
        return data[0] == 0xFE and len(data) < limit

    def status_of_end(self, data):
        if self.deprecates_eof:
            return self.okay(data)[1]
        return struct.unpack_from("<H", data, 3)[0]

    def result_set(self, data):
        columns, at = read_lenenc(data, 0)
        has_names = not self.has_metadata_flag or data[at] == 1
        status = self.definitions(columns if has_names else 0)
        if status & CURSOR:
            return [], status
        rows, end = self.rows()
        # MySQL tells only before a procedure's parameters that something follows them.
        return rows, end | (status & MORE_RESULTS if status & OUT_PARAMETERS else 0)

    def definitions(self, count, ends=True):
        """Passes over definitions; the answer is the status of the EOF behind them."""
        for _ in range(count):
            self.packet()
        if self.deprecates_eof or not ends:
            return 0
        return self.status_of_end(self.packet())

    def rows(self):
        rows = []
        while not self.is_end(data := self.packet()):
            rows.append(data)
        return rows, self.status_of_end(data)

    def send_file(self, name):
        """Sends the file in packets, or an empty one if there is none."""
        try:
            with open(name.decode(), "rb") as file:
                while chunk := file.read(100_000):
                    self.write_packet(chunk)
        except FileNotFoundError:
            pass
        self.write_packet(b"")

    def prepare(self, text):
        self.command(COMMAND.COM_STMT_PREPARE, text)
        data = self.packet()
        number, columns, parameters = struct.unpack_from("<xIHH", data)
        if not self.has_metadata_flag or data[12] == 1:
            for count in (parameters, columns):
                self.definitions(count, ends=count > 0)
        return Statement(self, number)

    def change_user(self, user, password, database):
        """Logs in anew; what is said of the password at once is never right."""
        self.user, self.password = user, password.encode()
        proof, charset = b"\0", struct.pack("<H", 45)
        names = user.encode() + b"\0" + proof + database.encode() + b"\0"
        method, attributes = b"mysql_native_password\0", b"\0"
        self.command(COMMAND.COM_CHANGE_USER, names + charset + method + attributes)
        packet = self._read_packet()
        if packet.is_auth_switch_request():
            packet.read_uint8()
            self._process_auth(packet.read_string(), packet)


class Statement:
    """A prepared statement."""

    def __init__(self, client, number):
        self.client, self.number = client, number

    def command(self, code, rest=b""):
        self.client.command(code, struct.pack("<I", self.number) + rest)

    def execution(self, parameters, flags, tells_types):
        head = struct.pack("<BI", flags, 1)
        if not parameters:
            return head
        nulls, types, values = bytearray((len(parameters) + 7) // 8), b"", b""
        for place, parameter in enumerate(parameters):
            kind, value = encoded(parameter)
            nulls[place // 8] |= (parameter is None) << (place % 8)
            types, values = types + struct.pack("<H", kind), values + value
        told = b"\1" + types if tells_types else b"\0"
        return head + bytes(nulls) + told + values

    def execute(self, *parameters, flags=0, tells_types=True):
        self.command(
            COMMAND.COM_STMT_EXECUTE, self.execution(parameters, flags, tells_types)
        )
        return self.client.results()

    def fetch(self, count):
        """The next rows of a cursor, and whether they were the last."""
        self.command(COMMAND.COM_STMT_FETCH, struct.pack("<I", count))
        rows, status = self.client.rows()
        return rows, bool(status & LAST_ROW)

    def send_long(self, parameter, chunk):
        self.command(
            COMMAND.COM_STMT_SEND_LONG_DATA, struct.pack("<H", parameter) + chunk
        )

    def reset(self):
        self.command(COMMAND.COM_STMT_RESET)
        self.client.results()

    def close(self):
        self.command(COMMAND.COM_STMT_CLOSE)
