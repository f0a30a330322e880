from tests.soak.zope.logs import FORMAT, loud, read

LINES = """1.000 INFO zkfleet.zeo.runner ending signal=SIGTERM
2.500 WARNING zkfleet.zeo.storage zeo_no_servers path=/a: waiting until one registers
3.000 ERROR waitress Exception while serving /add-order
Traceback (most recent call last):
  File "x.py", line 1
ZODB.POSException.ConflictError: database conflict error (oid 0x06)
4.000 ERROR asyncio call 17 of 0x7f00 failed
5.000 DEBUG"""


def test_a_traceback_belongs_to_the_line_before_it():
    assert [line.size for line in read("zope0", LINES.splitlines())] == [1, 1, 4, 2]


def test_lines_are_of_one_kind_whatever_their_numbers_and_values():
    kinds = [line.kind for line in loud(read("zope0", LINES.splitlines()))]
    assert kinds[0] == "WARNING zkfleet.zeo.storage zeo_no_servers"
    assert kinds[1] == "ERROR waitress Exception while serving /add-order (ZODB.POSException.ConflictError)"
    assert kinds[2] == "ERROR asyncio call # of # failed"


def test_what_is_no_record_is_an_error_that_is_seen():
    [line] = loud(read("server0", ["Fatal Python error: oh"]))
    assert line.kind == "ERROR - Fatal Python error"


def test_the_format_is_read_again():
    text = FORMAT % {"created": 1.5, "levelname": "ERROR", "name": "a.b", "message": "is it?"}
    [line] = read("zope0", [text])
    assert (line.at, line.level, line.logger, line.text) == (1.5, "ERROR", "a.b", "is it?")
