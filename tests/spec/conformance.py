"""The clauses of PEP 3333 and of the ASGI specifications that concern an adapter, and the tests that hold us to them.

`python tests/spec/conformance.py` prints docs/conformance.md. A test fails when the page is not what this prints, when
a test of this directory belongs to no clause, and when the table names a test that does not exist.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Clause:
    """One clause in our own words, the tests that check it, and where we deviate or choose, how and why."""

    id: str
    text: str
    tests: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A section of a specification, or several, and the file with its tests."""

    title: str
    file: str
    clauses: tuple[Clause, ...]


def c(id: str, text: str, tests: str = "", *, note: str = "") -> Clause:  # the word of the table
    """A clause; `tests` is class names, each followed by the tests in it that are meant."""
    names: list[str] = []
    group = ""
    for word in tests.split():
        if word.startswith("Test"):
            group = word
        else:
            names.append(f"{group}::test_{word}")
    return Clause(id, text, tuple(names), note)


PEP_3333 = "test_pep3333.py"
ASGI_HTTP = "test_asgi_http.py"
LIFESPAN = "test_asgi_lifespan.py"

TABLE: dict[str, tuple[Section, ...]] = {
    "PEP 3333": (
        Section(
            "Specification Overview",
            PEP_3333,
            (
                c(
                    "overview-1",
                    "Any kind of callable is an application; it is called, not introspected.",
                    """TestOverviewServer any_kind_of_callable_is_an_application
                    what_is_no_application_is_refused_at_construction
                    TestOverviewApplication what_is_no_asgi_application_is_refused_at_construction""",
                    note="The signature is looked at once, at construction, so that what cannot be called as an"
                    " application of its side is a `TypeError` there and not an error in each request. A callable"
                    " whose signature cannot be read is taken.",
                ),
                c(
                    "overview-2",
                    "The application is called once for each request, and can be called again.",
                    "TestOverviewServer the_application_is_called_once_for_each_request",
                ),
            ),
        ),
        Section(
            "A Note On String Types; Unicode Issues",
            PEP_3333,
            (
                c(
                    "strings-1",
                    "Strings handed to the application are `str` of code points up to U+00FF.",
                    """TestStringsServer strings_are_native_and_latin_1
                    paths_are_the_utf_8_bytes_in_native_strings""",
                ),
                c(
                    "strings-2",
                    "Strings beyond that from the application are a fatal error; others are sent as their bytes.",
                    """TestStringsServer a_string_beyond_latin_1_is_refused
                    a_latin_1_header_value_is_sent_as_its_bytes
                    TestStartResponseApplication headers_are_a_list_of_pairs_of_native_strings""",
                ),
                c(
                    "strings-3",
                    "Bytestrings are `bytes`.",
                    """TestStringsServer a_chunk_that_is_not_bytes_is_refused
                    TestDetailsApplication it_returns_an_iterable_of_bytes""",
                ),
            ),
        ),
        Section(
            "Specification Details",
            PEP_3333,
            (
                c(
                    "details-1",
                    "Application and `start_response` are called with positional arguments.",
                    """TestDetailsServer the_arguments_are_positional
                    TestDetailsApplication it_is_a_callable_of_two_positional_arguments
                    start_response_is_called_once_and_before_the_body""",
                ),
                c(
                    "details-2",
                    "`environ` is a builtin dict; the application may change it.",
                    """TestDetailsServer environ_is_a_dict_that_the_application_may_change
                    TestDetailsApplication the_environ_of_the_server_is_left_as_it_is""",
                ),
                c(
                    "details-3",
                    "The application returns an iterable of zero or more bytestrings.",
                    """TestDetailsServer any_iterable_is_a_body no_bytes_at_all_is_a_response
                    what_is_no_iterable_is_an_error
                    TestDetailsApplication it_is_an_iterator_to_its_end""",
                ),
                c("details-4", "Bytestrings are sent as they are.", "TestDetailsServer bytes_are_not_altered"),
                c(
                    "details-5",
                    "Each bytestring is sent before the next one is asked for.",
                    """TestDetailsServer a_chunk_is_sent_before_the_next_is_asked_for
                    the_iterable_is_not_consumed_ahead_of_the_client
                    TestDetailsApplication each_chunk_is_yielded_when_it_is_there""",
                    note="As Buffering and Streaming allows, a bounded number of bytes may be on its way in another"
                    " thread while the application produces the next block.",
                ),
                c(
                    "details-6",
                    "A working `len()` of the iterable is right and may be relied on.",
                    """TestDetailsServer the_length_of_an_iterable_is_believed
                    TestDetailsApplication a_working_len_is_accurate""",
                ),
                c(
                    "details-7",
                    "`close()` of the iterable is called in any case: at the end, after an error, after a disconnect.",
                    """TestDetailsServer close_is_called_after_a_whole_response
                    close_is_called_after_an_error_of_the_iteration
                    close_is_called_when_the_client_leaves
                    close_is_called_when_start_response_never_was
                    close_is_called_when_nothing_may_be_sent an_error_of_close_is_logged""",
                ),
                c(
                    "details-8",
                    "The server may close the iterable before it is exhausted.",
                    """TestDetailsApplication the_server_may_close_it_early
                    it_may_be_closed_before_it_was_iterated""",
                ),
                c(
                    "details-9",
                    "`start_response` is called before the first bytestring, at the latest in the first iteration.",
                    """TestDetailsServer start_response_may_wait_for_the_first_iteration
                    TestDetailsApplication start_response_is_called_once_and_before_the_body""",
                    note="`AsgiToWsgi` calls it before it returns, since some servers look for the headers then.",
                ),
                c(
                    "details-10",
                    "No other attribute of the iterable is used.",
                    "TestDetailsServer only_the_iterator_protocol_and_close_are_used",
                ),
                c(
                    "details-11",
                    "What `wsgiref.validate` checks on either side.",
                    """TestDetailsServer the_standard_library_finds_nothing_wrong
                    TestDetailsApplication the_standard_library_finds_nothing_wrong""",
                ),
            ),
        ),
        Section(
            "environ Variables",
            PEP_3333,
            (
                c("environ-1", "REQUEST_METHOD is always there.", "TestEnvironServer the_method_is_there"),
                c(
                    "environ-2",
                    "SCRIPT_NAME is the mount, PATH_INFO the rest of the path.",
                    "TestEnvironServer script_name_and_path_info_split_the_path",
                ),
                c(
                    "environ-3",
                    "QUERY_STRING is what follows `?`.",
                    "TestEnvironServer the_query_string_is_not_decoded",
                ),
                c(
                    "environ-4",
                    "CONTENT_TYPE and CONTENT_LENGTH are their headers.",
                    "TestEnvironServer content_type_and_length_have_no_prefix",
                ),
                c(
                    "environ-5",
                    "SERVER_NAME and SERVER_PORT are strings and never empty.",
                    "TestEnvironServer server_name_and_port_are_never_empty",
                    note="Where the ASGI server does not say, or listens on a unix socket, the port is the scheme's"
                    " default.",
                ),
                c("environ-6", "SERVER_PROTOCOL is the client's.", "TestEnvironServer the_protocol_is_the_clients"),
                c(
                    "environ-7",
                    "HTTP_ variables are there as the headers are.",
                    """TestEnvironServer headers_become_http_variables repeated_headers_are_joined
                    headers_that_could_pass_for_others_are_dropped""",
                    note="Headers whose name has a `_` are left out: they would take the place of the header with `-`,"
                    " which proxies trust. So is `Proxy`, whose HTTP_PROXY libraries take for a setting.",
                ),
                c(
                    "environ-8",
                    "With TLS there should be Apache's variables, HTTPS and SSL_PROTOCOL for two.",
                    "TestEnvironServer tls_is_told_in_the_apache_variables",
                ),
                c(
                    "environ-9",
                    "As many other CGI variables as apply should be there.",
                    "TestEnvironServer the_peer_is_told",
                ),
                c(
                    "environ-10",
                    "Missing variables are left out.",
                    "TestEnvironServer what_the_client_did_not_send_is_left_out",
                    note="REMOTE_ADDR is empty where the client is not known: RFC 3875 4.1.8 wants it set.",
                ),
                c("environ-11", "The `wsgi.` variables are there.", "TestEnvironServer the_wsgi_variables_are_there"),
                c(
                    "environ-12",
                    "Variables of the server's own have lower-case names with a prefix.",
                    "TestEnvironServer variables_of_our_own_are_named_by_the_rule",
                ),
                c(
                    "environ-13",
                    "Variables of the operating system may be there.",
                    "TestEnvironServer the_process_environment_stays_outside",
                    note="They are not: a variable named like a CGI one would pass for the request's.",
                ),
            ),
        ),
        Section(
            "Input and Error Streams",
            PEP_3333,
            (
                c(
                    "streams-1",
                    "read, readline, readlines and iteration of `wsgi.input` behave as those of a file.",
                    """TestInputServer input_behaves_as_a_file the_input_is_read_on_demand
                    the_input_can_be_read_while_the_response_is_sent""",
                ),
                c(
                    "streams-2",
                    "The end of the body is an end of file, and so is reading past it.",
                    """TestInputServer reading_past_the_end_gives_empty_bytes
                    a_request_without_a_body_has_an_empty_input""",
                ),
                c(
                    "streams-3",
                    "Nothing beyond Content-Length is read or handed out.",
                    """TestInputServer the_input_ends_at_content_length
                    TestInputApplication no_more_than_content_length_is_read
                    without_content_length_nothing_is_read""",
                ),
                c(
                    "streams-4",
                    "A client that leaves before the end of its body: the PEP says nothing.",
                    "TestInputServer a_body_that_breaks_off_never_looks_whole",
                    note="Reading raises `ClientDisconnected`, an `OSError`: half a body never looks like a whole one.",
                ),
                c(
                    "streams-5",
                    "`wsgi.errors` has write, writelines and flush, and takes any text.",
                    "TestInputServer errors_takes_text",
                ),
                c(
                    "streams-6",
                    "The application uses no other method, and closes neither stream.",
                    "TestInputApplication the_streams_are_not_closed",
                    note="Where the server is known to show more, its connection's buffers and file descriptor, those"
                    " are used to read without waiting and to see a client leave.",
                ),
            ),
        ),
        Section(
            "The start_response() Callable",
            PEP_3333,
            (
                c("start-1", "It returns `write`.", "TestStartResponseServer it_returns_a_write_callable"),
                c(
                    "start-2",
                    "The status is a code, a space and a reason, without control characters.",
                    """TestStartResponseServer the_status_is_the_code_of_the_string
                    a_bad_status_is_refused_in_the_call a_status_without_a_reason_is_taken
                    TestStartResponseApplication the_status_has_code_and_reason""",
                    note="A code without a reason is taken: HTTP allows it, and the ASGI server gets the code alone.",
                ),
                c(
                    "start-3",
                    "Headers are a list of pairs of strings, valid names, no control characters; checked in the call.",
                    """TestStartResponseServer a_bad_header_is_refused_in_the_call the_list_may_be_used_again
                    TestStartResponseApplication headers_are_a_list_of_pairs_of_native_strings
                    a_header_that_breaks_the_head_does_not_get_out""",
                ),
                c(
                    "start-4",
                    "Hop-by-hop headers are a fatal error.",
                    """TestStartResponseServer a_hop_by_hop_header_is_refused
                    TestStartResponseApplication no_hop_by_hop_header_gets_out""",
                    note="From an ASGI application, which may send some of them, they are left out instead.",
                ),
                c(
                    "start-5",
                    "Headers that HTTP needs and the application omits are added by the server.",
                    "TestStartResponseServer headers_keep_order_and_repeats",
                    note="Date, Server and the framing are added by the ASGI server, which would see ours as repeats.",
                ),
                c(
                    "start-6",
                    "Headers leave with the first bytes of the body or at its end, not before.",
                    """TestStartResponseServer an_empty_chunk_does_not_send_the_headers
                    the_headers_leave_with_the_first_bytes
                    the_headers_leave_at_the_end_of_an_empty_body""",
                ),
                c(
                    "start-7",
                    "`exc_info` before the headers have left replaces them.",
                    """TestStartResponseServer an_empty_chunk_does_not_send_the_headers
                    a_call_after_a_failed_one_needs_exc_info""",
                ),
                c(
                    "start-8",
                    "`exc_info` after the headers have left is raised again.",
                    "TestStartResponseServer exc_info_after_the_headers_raises_it_again",
                ),
                c(
                    "start-9",
                    "A further call without `exc_info` is a fatal error, also after a first that raised.",
                    """TestStartResponseServer a_second_call_without_exc_info_is_an_error
                    a_call_after_a_failed_one_needs_exc_info none_for_exc_info_is_none_given""",
                ),
                c(
                    "start-10",
                    "No reference to `exc_info` is kept.",
                    "TestStartResponseServer no_reference_to_exc_info_is_kept",
                ),
            ),
        ),
        Section(
            "Handling the Content-Length Header",
            PEP_3333,
            (
                c(
                    "length-1",
                    "No more bytes are sent than it allows; the iteration stops there.",
                    """TestContentLengthServer no_more_than_it_says_is_sent a_list_that_is_too_long_is_cut
                    iteration_stops_when_enough_was_sent""",
                    note="The surplus is also logged.",
                ),
                c("length-2", "`write()` past it is an error.", "TestContentLengthServer writing_past_it_is_an_error"),
                c(
                    "length-3",
                    "Too little: the connection is closed and the error reported.",
                    """TestContentLengthServer too_little_aborts_the_connection
                    too_little_at_once_is_not_sent_at_all""",
                ),
                c(
                    "length-4",
                    "A length that cannot be heeded: the PEP says nothing.",
                    """TestContentLengthServer a_length_that_is_no_number_is_refused
                    two_lengths_that_differ_are_refused""",
                    note="`start_response` refuses it.",
                ),
                c(
                    "length-5",
                    "Without one, the server may find it where the body is one bytestring, or frame the body itself.",
                    """TestDetailsServer the_length_of_an_iterable_is_believed
                    TestContentLengthServer a_stream_without_it_gets_none
                    TestDetailsApplication a_small_response_is_a_list_of_one""",
                ),
                c(
                    "length-6",
                    "Otherwise it passes.",
                    """TestContentLengthServer zero_is_a_length
                    TestStartResponseApplication content_length_passes""",
                ),
            ),
        ),
        Section(
            "Buffering and Streaming; The write() Callable",
            PEP_3333,
            (
                c("streaming-1", "No block is delayed.", "TestStreamingServer no_block_is_delayed"),
                c(
                    "write-1",
                    "What is written is sent, or on its way, when `write()` returns.",
                    """TestStreamingServer what_is_written_is_sent_while_the_application_runs
                    writing_waits_for_a_slow_client writing_to_a_client_that_left_raises""",
                ),
                c(
                    "write-2",
                    "Yielded bytestrings follow the written ones.",
                    "TestStreamingServer what_is_yielded_follows_what_was_written",
                ),
                c(
                    "write-3",
                    "The application returns an iterable also when it writes.",
                    "TestStreamingServer an_iterable_is_needed_also_after_write",
                ),
                c("write-4", "`write()` takes bytes.", "TestStreamingServer write_takes_bytes_alone"),
                c(
                    "write-5",
                    "The first `write()` sends the headers.",
                    """TestStreamingServer writing_nothing_sends_nothing exc_info_after_write_raises_it_again""",
                    note='`write(b"")` does not: "response headers must not be sent until there is actual body data".',
                ),
                c(
                    "write-6",
                    "New applications do not use it.",
                    "TestStartResponseApplication write_is_not_used",
                ),
            ),
        ),
        Section(
            "Error Handling",
            PEP_3333,
            (
                c(
                    "errors-1",
                    "An exception that aborts the application or its iteration is caught and logged.",
                    """TestErrorsServer an_error_before_the_headers_is_logged_and_nothing_is_sent
                    an_error_after_the_headers_is_logged_and_aborts
                    no_error_of_an_application_ends_the_server an_error_does_not_cost_a_thread""",
                    note="It is then raised to the ASGI server, which answers 500 or aborts the connection.",
                ),
                c(
                    "errors-2",
                    "Applications should trap their errors and show a page.",
                    """TestErrorsApplication an_error_before_the_body_is_raised_from_the_call
                    an_error_within_the_body_is_raised_from_the_iterator
                    an_error_of_start_response_reaches_the_server middleware_sees_the_exception""",
                    note="`AsgiToWsgi` has no page to show: it logs what the ASGI application raised and raises it to"
                    " the WSGI server and its middleware, whose business errors are.",
                ),
            ),
        ),
        Section(
            "HTTP 1.1 Expect/Continue; Other HTTP Features; Thread Support",
            PEP_3333,
            (
                c(
                    "http-1",
                    "Expect/Continue is supported transparently.",
                    "TestOtherHttpServer the_body_of_an_expect_request_is_asked_for",
                    note="By the ASGI server: it sends `100 Continue` when the body is asked for.",
                ),
                c(
                    "http-2",
                    "The application has complete control over its output.",
                    "TestOtherHttpServer the_application_rules_its_output",
                ),
                c(
                    "http-3",
                    "Inbound transfer encodings are handled by the server.",
                    "TestOtherHttpServer a_chunked_body_is_there_to_be_read",
                    note="Such a body is collected and gets a CONTENT_LENGTH, without which some frameworks read"
                    " nothing; with `stream_chunked` it is streamed and `wsgi.input_terminated` says that it ends"
                    " by itself.",
                ),
                c(
                    "http-4",
                    "Responses that have no body (RFC 9110 6.4.1) carry none.",
                    """TestOtherHttpServer a_response_that_has_no_body_carries_none
                    the_length_of_a_head_response_is_left_alone
                    TestStartResponseApplication a_response_that_has_no_body_carries_none""",
                ),
                c(
                    "threads-1",
                    "An application can be run in a single-threaded fashion.",
                    "TestOtherHttpServer one_thread_runs_one_request_at_a_time",
                ),
                c(
                    "threads-2",
                    "Requests run side by side otherwise, each in one thread from call to `close()`.",
                    """TestOtherHttpServer requests_run_side_by_side a_request_keeps_its_thread""",
                ),
            ),
        ),
        Section(
            "Server Extension APIs; URL Reconstruction; Optional Platform-Specific File Handling",
            PEP_3333,
            (
                c(
                    "notes-1",
                    "Extensions that bypass WSGI must agree with what middleware did to `environ`.",
                    "TestNotesServer the_scope_can_be_reached_but_shows_no_secret",
                    note='`environ["asgi.scope"]` shows the request as it was received, not as middleware changed it;'
                    " it replaces nothing, and its `repr` hides header values, since debug pages print an environ.",
                ),
                c("notes-2", "The URL can be reconstructed.", "TestNotesServer the_url_can_be_put_together_again"),
                c(
                    "file-1",
                    "`wsgi.file_wrapper` takes a file-like object and perhaps a block size, and gives an iterable.",
                    """TestFileWrapperServer a_file_like_object_is_sent it_is_an_iterable_for_middleware
                    an_error_of_the_file_fails_the_request""",
                ),
                c(
                    "file-2",
                    "Nothing is sent unless it is returned.",
                    "TestFileWrapperServer nothing_is_sent_unless_it_is_returned",
                ),
                c(
                    "file-3",
                    "Its `close()` closes the file.",
                    "TestFileWrapperServer close_closes_the_file a_head_request_sends_no_file",
                ),
                c(
                    "file-4",
                    "The file is sent from its current position to its end or to Content-Length.",
                    """TestFileWrapperServer it_begins_where_the_file_stands it_ends_at_content_length
                    a_file_is_read_where_the_server_cannot_send_it""",
                ),
                c(
                    "file-5",
                    "The server finds its wrapper as the return value.",
                    "TestFileWrapperApplication the_wrapper_of_the_server_is_returned_itself",
                ),
            ),
        ),
    ),
    "ASGI": (
        Section(
            "Connection Scope; Applications; Legacy Applications",
            ASGI_HTTP,
            (
                c(
                    "applications-1",
                    "An application is one async callable of scope, receive and send.",
                    """TestApplicationsServer any_async_callable_is_an_application
                    TestApplicationsApplication it_is_one_async_callable""",
                ),
                c(
                    "applications-2",
                    "It is called once for each connection, which in HTTP is a request.",
                    "TestApplicationsServer it_is_called_once_for_each_request requests_run_side_by_side",
                ),
                c(
                    "applications-3",
                    "The scope is a dict with `type` and `asgi`; keys are strings.",
                    "TestApplicationsServer the_scope_tells_type_and_versions keys_are_strings",
                ),
                c(
                    "applications-4",
                    "`receive` and `send` give awaitables.",
                    "TestApplicationsApplication receive_and_send_need_not_be_coroutine_functions",
                ),
                c(
                    "applications-5",
                    "A protocol that is not understood is rejected with an exception.",
                    "TestApplicationsApplication a_protocol_it_does_not_know_is_rejected",
                ),
                c(
                    "applications-6",
                    "Keys that may be missing are not expected, unknown ones are ignored.",
                    """TestApplicationsApplication a_scope_of_the_required_keys_is_enough optional_keys_may_be_none
                    unknown_keys_are_ignored""",
                ),
                c(
                    "applications-7",
                    "Applications run in an event loop, on the main thread.",
                    "TestApplicationsServer all_requests_share_one_loop",
                    note="The WSGI server has the main thread; the loop has a thread of its own, one in a process.",
                ),
                c(
                    "applications-8",
                    "Servers should support two-callable applications of ASGI 2, and drop that over time.",
                    "TestApplicationsServer a_legacy_application_is_refused",
                    note="Dropped: `asgiref.compatibility.guarantee_single_callable` makes them single.",
                ),
                c(
                    "applications-9",
                    "Each call stands alone.",
                    """TestContextServer context_variables_do_not_leak_between_requests
                    context_variables_of_the_server_reach_the_application
                    TestContextApplication context_variables_do_not_leak_between_requests
                    context_variables_of_the_server_reach_the_application""",
                ),
            ),
        ),
        Section(
            "Events",
            ASGI_HTTP,
            (
                c(
                    "types-1",
                    "Events are dicts of strings, bytes, numbers, lists, dicts, booleans and None.",
                    "TestApplicationsServer keys_are_strings",
                    note="Header pairs, `client` and `server` are tuples, the iterables of the HTTP format.",
                ),
            ),
        ),
        Section(
            "Middleware",
            ASGI_HTTP,
            (
                c(
                    "middleware-1",
                    "Changes of a scope must not leak upstream.",
                    """TestMiddlewareServer a_changed_scope_does_not_leak
                    TestApplicationsApplication the_scope_is_left_as_it_is""",
                ),
                c(
                    "middleware-2",
                    "Middleware may hand down another scope, receive and send.",
                    "TestMiddlewareServer an_adapter_inside_middleware_gets_what_that_passes",
                ),
            ),
        ),
        Section(
            "Error Handling",
            ASGI_HTTP,
            (
                c(
                    "events-1",
                    "An invalid event is an exception out of `send`.",
                    """TestEventErrorsServer an_invalid_first_event_is_an_error_out_of_send
                    an_invalid_later_event_is_an_error_out_of_send""",
                ),
                c(
                    "events-2",
                    "An invalid event from `receive` is an exception of the application.",
                    "TestApplicationsApplication an_invalid_event_is_an_error",
                ),
                c(
                    "events-3",
                    "Additional keys are no error.",
                    """TestEventErrorsServer additional_keys_are_no_error
                    TestApplicationsApplication unknown_keys_are_ignored""",
                ),
                c(
                    "events-4",
                    "An exception of the application ends its connection, and is surfaced.",
                    """TestEventErrorsServer an_error_terminates_the_connection
                    an_application_that_breaks_off_ends_in_an_error an_error_after_the_end_is_logged""",
                ),
                c(
                    "events-5",
                    "What `send` raised does no harm to the server when it comes out of the application.",
                    "TestEventErrorsServer an_error_of_send_may_leave_the_application",
                ),
            ),
        ),
        Section(
            "Extra Coroutines",
            ASGI_HTTP,
            (
                c(
                    "coroutines-1",
                    "A call lasts as long as its connection, and a little longer for cleanup.",
                    """TestExtraCoroutinesServer work_after_the_response_does_not_delay_it
                    work_after_a_stream_does_not_delay_its_end
                    a_server_that_stops_at_content_length_cancels_nothing""",
                ),
                c(
                    "coroutines-2",
                    "Coroutines that outlive their application have no guarantees.",
                    "TestExtraCoroutinesServer a_task_of_the_application_goes_on",
                    note="They go on as long as the loop does, between requests too.",
                ),
            ),
        ),
        Section(
            "Extensions",
            ASGI_HTTP,
            (
                c(
                    "extensions-1",
                    "A supported extension has a dict under its name; others are not there.",
                    """TestExtensionsServer only_what_the_server_can_honour_is_offered
                    an_extension_that_was_not_offered_is_refused""",
                ),
            ),
        ),
    ),
    "ASGI HTTP": (
        Section(
            "HTTP Connection Scope; WSGI Compatibility; WSGI encoding differences",
            ASGI_HTTP,
            (
                c(
                    "scope-1",
                    "The scope's keys and environ's variables correspond.",
                    "TestScopeApplication the_scope_becomes_the_environ the_state_reaches_the_environ",
                ),
                c("scope-2", "`http_version` is 1.0, 1.1 or 2.", "TestScopeServer the_version_is_one_of_three"),
                c("scope-3", "`method` is upper-case.", "TestScopeServer the_method_is_upper_case"),
                c("scope-4", "`scheme` is the URL's.", "TestScopeServer the_scheme_is_that_of_the_url"),
                c(
                    "scope-5",
                    "`path` is decoded from percent-encoding and UTF-8; `root_path` is SCRIPT_NAME.",
                    """TestScopeServer the_path_is_decoded_and_whole a_mount_is_decoded_as_the_path_is
                    a_path_that_is_no_utf_8_is_served""",
                ),
                c(
                    "scope-6",
                    "`raw_path` is the path as it was received, without the query.",
                    """TestScopeServer the_raw_path_is_what_the_client_sent
                    TestScopeApplication the_target_as_it_was_sent_is_kept""",
                    note="Where the WSGI server does not keep it, the decoded path is quoted again.",
                ),
                c("scope-7", "`query_string` is bytes.", "TestScopeServer the_query_string_is_bytes"),
                c(
                    "scope-8",
                    "`headers` is an iterable of pairs of bytes; order and repeats are preserved.",
                    """TestScopeServer headers_are_pairs_of_bytes headers_can_be_read_twice
                    an_empty_variable_is_no_header
                    TestScopeApplication header_names_have_no_case headers_are_any_iterable_of_pairs""",
                    note="CGI variables have no order and no repeats, so behind a WSGI server both are as that server"
                    " joined them, and names are lower-case.",
                ),
                c(
                    "scope-9",
                    "Cookie headers may repeat in HTTP/2, and are joined by `; `.",
                    "TestScopeApplication cookies_of_several_headers_are_one",
                ),
                c(
                    "scope-10",
                    "`client` is host and port, `server` that or the path of a socket.",
                    "TestScopeServer the_client_is_host_and_port the_server_is_host_and_port_or_a_socket",
                    note="The port is 0 where the WSGI server knows the client's address alone.",
                ),
                c(
                    "scope-11",
                    "Further keys are the server's.",
                    "TestScopeServer the_environ_can_be_reached",
                    note="`wsgi_environ` is the WSGI server's environ.",
                ),
            ),
        ),
        Section(
            "Request",
            ASGI_HTTP,
            (
                c(
                    "request-1",
                    "A request is at least one `http.request`.",
                    "TestRequestServer a_request_without_a_body_is_one_empty_event",
                ),
                c(
                    "request-2",
                    "The bodies concatenate to the request's; `more_body` says whether it goes on.",
                    """TestRequestServer the_events_add_up_to_the_body
                    TestRequestApplication body_and_more_body_are_optional pieces_are_concatenated""",
                ),
                c(
                    "request-3",
                    "Chunked bodies are decoded.",
                    "TestRequestServer a_chunked_body_is_decoded",
                    note="By the WSGI server, and known by its `wsgi.input_terminated`. Without that flag a body"
                    " without Content-Length is refused with 411.",
                ),
                c(
                    "request-4",
                    "The body is streamed as the application asks for it.",
                    """TestRequestServer nothing_is_read_before_it_is_asked_for a_cancelled_receive_loses_nothing
                    the_body_can_be_read_while_the_response_is_sent several_tasks_may_receive
                    TestRequestApplication a_request_that_cannot_have_a_body_is_not_asked_for_one
                    a_length_of_zero_is_no_body a_body_is_asked_for_and_no_more""",
                    note="Reading blocks the WSGI server's thread, so what the application sends while it waits in"
                    " `receive` may leave only when the read has returned.",
                ),
                c(
                    "request-5",
                    "A body that breaks off, or whose length is none: the specification says nothing.",
                    """TestRequestServer a_body_that_breaks_off_is_a_disconnect
                    a_length_that_is_no_number_is_not_guessed""",
                    note="The first is `http.disconnect`, the second is answered 400 without the application.",
                ),
            ),
        ),
        Section(
            "Response Start; Response Body",
            ASGI_HTTP,
            (
                c(
                    "response-1",
                    "A start, then bodies, the last without `more_body`.",
                    """TestResponseApplication one_start_then_bodies_then_the_end nothing_is_sent_after_the_end
                    send_is_called_from_the_task_of_the_request""",
                ),
                c("response-2", "`status` is an integer.", "TestResponseApplication the_reason_is_dropped"),
                c(
                    "response-3",
                    "`headers` is optional, an iterable of pairs of bytes with lower-case names.",
                    """TestResponseServer headers_are_optional headers_are_any_iterable_of_pairs
                    header_names_may_have_capitals
                    TestResponseApplication the_start_always_has_headers""",
                ),
                c(
                    "response-4",
                    "The start need not be sent before the first body, so that an error can replace it.",
                    "TestResponseServer the_start_waits_for_a_body an_empty_first_body_event_sends_the_headers",
                ),
                c(
                    "response-5",
                    "A Transfer-Encoding of the application's is ignored.",
                    "TestResponseServer a_transfer_encoding_is_ignored",
                ),
                c(
                    "response-6",
                    "`body` and `more_body` are optional; bodies are concatenated.",
                    """TestResponseServer body_and_more_body_are_optional bodies_are_concatenated_in_order
                    several_tasks_may_send""",
                ),
                c(
                    "response-7",
                    "Data is flushed into the send buffer before `send` returns.",
                    "TestResponseServer a_chunk_is_on_its_way_when_send_returns send_waits_for_a_slow_client",
                ),
                c(
                    "response-8",
                    "Events after the end are ignored.",
                    "TestResponseServer events_after_the_end_are_ignored",
                ),
                c(
                    "response-9",
                    "What HTTP itself asks of a body: none where none may be, as long as Content-Length says.",
                    """TestResponseServer a_response_that_has_no_body_carries_none more_than_content_length_is_cut
                    less_than_content_length_is_an_error""",
                ),
            ),
        ),
        Section(
            "Disconnected Client; Disconnect",
            ASGI_HTTP,
            (
                c(
                    "disconnect-1",
                    "`receive` gives `http.disconnect` after the response or the connection has ended.",
                    """TestDisconnectServer receive_after_the_response_says_disconnect
                    receive_that_waits_hears_of_the_end receive_waits_while_the_client_is_there
                    closing_early_reaches_a_waiting_receive""",
                    note="WSGI servers do not tell that a client left. Where their connection can be seen it is"
                    " watched; elsewhere it shows when they fail to write and close the iterable.",
                ),
                c(
                    "disconnect-2",
                    "`send` on a closed connection raises an `OSError`, and that is no error for the log.",
                    """TestDisconnectServer send_to_a_client_that_left_raises_an_os_error
                    that_error_is_no_error_in_the_log""",
                ),
                c(
                    "disconnect-3",
                    "An application that does not listen: the specification says nothing.",
                    "TestDisconnectServer an_application_that_does_not_listen_is_cancelled",
                    note="It is cancelled after `disconnect_grace` seconds.",
                ),
                c(
                    "disconnect-4",
                    "An application hears of the disconnect from `receive`, or from `send`, or is cancelled.",
                    """TestDisconnectApplication a_disconnect_stops_a_stream the_application_can_ask
                    send_that_raises_stops_the_application a_request_whose_client_left_before_is_not_run
                    a_cancelled_request_stops_the_application a_client_that_leaves_is_no_error_in_the_log""",
                    note="What blocks inside the WSGI application cannot be interrupted, only chunks, `read()` and"
                    " `write()`.",
                ),
            ),
        ),
        Section(
            "WebSocket",
            ASGI_HTTP,
            (
                c(
                    "websocket-1",
                    "Closing before accepting denies the handshake.",
                    "TestWebSocketApplication a_handshake_is_denied",
                ),
                c(
                    "websocket-2",
                    "With the denial extension there is a response.",
                    "TestWebSocketApplication a_handshake_is_denied_with_a_response_where_offered",
                ),
                c(
                    "websocket-3",
                    "A WSGI server's upgrade request is a WebSocket connection.",
                    note="No: it is an `http` request, and one warning names the server.",
                ),
            ),
        ),
    ),
    "ASGI Extensions": (
        Section(
            "Path Send",
            ASGI_HTTP,
            (
                c(
                    "pathsend-1",
                    "The application sends the path after the start, once, and nothing beside it.",
                    """TestPathSendServer it_is_offered_where_the_server_wraps_files the_file_is_sent
                    it_does_not_mix_with_body_events a_file_that_cannot_be_opened_is_an_error
                    a_head_request_sends_no_file
                    TestPathSendApplication a_whole_file_is_left_to_the_server""",
                ),
                c(
                    "pathsend-2",
                    "It is used only where it is offered, and fits.",
                    """TestPathSendApplication it_is_not_used_unless_it_is_offered
                    a_part_of_a_file_is_sent_as_a_body""",
                ),
            ),
        ),
        Section(
            "Early Hints",
            ASGI_HTTP,
            (
                c(
                    "hints-1",
                    "The links of each event, sent before the end of the body, become Link headers of a 103.",
                    """TestEarlyHintServer it_is_offered_where_the_server_sends_hints links_become_link_headers
                    a_hint_within_the_body_is_no_error a_link_that_breaks_the_head_does_not_get_out""",
                    note="Before the start they are taken too, as other servers do; after the first body they are"
                    " ignored, since HTTP/1.1 has no place for them there.",
                ),
            ),
        ),
        Section(
            "HTTP Trailers",
            ASGI_HTTP,
            (
                c(
                    "trailers-1",
                    "Trailers follow the body where the server offers it.",
                    """TestTrailersServer trailers_are_not_offered_and_refused
                    a_start_that_announces_trailers_does_not_hang""",
                    note="Not offered: WSGI has no way to send them.",
                ),
            ),
        ),
        Section(
            "HTTP/2 Server Push; Zero Copy Send; Debug",
            ASGI_HTTP,
            (
                c(
                    "other-1",
                    "Events of extensions that are not offered are unknown events.",
                    "TestExtensionsServer an_extension_that_was_not_offered_is_refused",
                    note="WSGI has no push, a file descriptor of the application's could not be kept open for the"
                    " server, and Debug is for tests alone.",
                ),
            ),
        ),
        Section(
            "TLS",
            ASGI_HTTP,
            (
                c(
                    "tls-1",
                    "It is there with TLS and forbidden without.",
                    """TestTlsServer without_tls_it_is_not_there
                    TestTlsApplication without_tls_there_is_none_in_the_environ""",
                ),
                c(
                    "tls-2",
                    "Its entries have the given types, the mandatory ones are there.",
                    """TestTlsServer its_entries_have_their_types
                    a_client_certificate_is_the_first_of_the_chain
                    TestTlsApplication what_the_extension_knows_is_in_the_environ the_smallest_form_is_enough""",
                    note="What the WSGI server does not tell is None.",
                ),
            ),
        ),
    ),
    "ASGI Lifespan": (
        Section(
            "Scope",
            LIFESPAN,
            (
                c(
                    "lifespan-1",
                    "The scope has type, versions and an empty state.",
                    "TestScopeServer the_scope_tells_type_and_versions",
                ),
                c(
                    "lifespan-2",
                    "There is one lifespan for an event loop, and requests run in the same loop.",
                    "TestScopeServer it_is_one_for_the_loop_that_runs_the_requests",
                    note="It begins with the first request of a process: a WSGI application is not told of the start.",
                ),
                c(
                    "lifespan-3",
                    "After an exception the server goes on and sends no lifespan event.",
                    """TestScopeServer an_application_that_raises_does_not_support_it
                    an_application_that_raises_at_the_startup_event_does_not_support_it
                    an_application_that_does_not_answer_does_not_support_it it_can_be_turned_off it_can_be_demanded""",
                    note='With `lifespan="on"` that is a failed startup instead.',
                ),
            ),
        ),
        Section(
            "Lifespan State",
            LIFESPAN,
            (
                c(
                    "state-1",
                    "Each request gets a shallow copy of the namespace.",
                    """TestStateServer each_request_gets_a_shallow_copy
                    a_request_has_a_state_without_lifespan_too
                    TestEventsApplication the_state_reaches_the_requests""",
                ),
            ),
        ),
        Section(
            "Startup; Startup Complete; Startup Failed",
            LIFESPAN,
            (
                c(
                    "startup-1",
                    "No connection is processed before the startup is complete.",
                    """TestStartupServer no_request_runs_before_it_is_complete
                    a_startup_that_never_ends_is_an_error""",
                ),
                c(
                    "startup-2",
                    "After a failed startup the server logs the message and exits.",
                    "TestStartupServer a_failed_startup_is_an_error_that_names_it the_message_is_optional",
                    note="A WSGI application cannot end its server: the message is logged, and each request fails with"
                    " it.",
                ),
                c(
                    "startup-3",
                    "A lifespan that ends too early: the specification says nothing.",
                    "TestStartupServer a_lifespan_that_dies_later_does_not_stop_the_requests",
                    note="It is logged, and requests go on.",
                ),
                c(
                    "startup-4",
                    "The application answers when its startup is complete or has failed.",
                    """TestEventsApplication both_events_are_answered nothing_is_answered_before_it_is_asked
                    the_hooks_run_in_their_phases a_startup_that_fails_says_so the_loop_is_free_while_a_hook_runs
                    requests_are_served_without_a_lifespan""",
                ),
            ),
        ),
        Section(
            "Shutdown; Shutdown Complete; Shutdown Failed",
            LIFESPAN,
            (
                c(
                    "shutdown-1",
                    "It is sent when all connections are closed, and the server waits for its completion.",
                    """TestShutdownServer closing_waits_for_it closing_twice_asks_once
                    without_a_request_there_is_nothing_to_shut_down it_comes_after_the_requests
                    it_comes_after_background_work""",
                    note="WSGI tells an application nothing of the end: `close()`, a hook of the server or the exit of"
                    " the interpreter begin it.",
                ),
                c(
                    "shutdown-2",
                    "After a failed shutdown the server logs the message and ends.",
                    "TestShutdownServer a_failed_shutdown_is_logged an_error_in_it_is_logged",
                ),
                c(
                    "shutdown-3",
                    "A shutdown that does not end: the specification says nothing.",
                    "TestShutdownServer a_shutdown_that_never_ends_does_not_keep_the_process",
                    note="After `shutdown_timeout` seconds it is cancelled and logged.",
                ),
                c(
                    "shutdown-4",
                    "Answers come in the order of the questions.",
                    "TestShutdownServer an_answer_out_of_order_is_an_error",
                ),
                c(
                    "shutdown-5",
                    "The application answers when its shutdown is complete or has failed.",
                    """TestEventsApplication both_events_are_answered a_shutdown_that_fails_says_so
                    shutdown_waits_for_running_requests""",
                ),
            ),
        ),
    ),
    "This page": (
        Section(
            "Table and tests",
            PEP_3333,
            (
                c(
                    "page-1",
                    "Table, tests and page agree.",
                    """TestConformancePage each_test_is_named_in_the_table each_clause_has_a_test_or_a_reason
                    the_page_is_what_the_table_prints""",
                ),
            ),
        ),
    ),
}

INTRODUCTION = """\
# Conformance

<!-- Printed by `python tests/spec/conformance.py`; a test fails when this page is stale. -->

Each clause of [PEP 3333](https://peps.python.org/pep-3333/) and of the
[ASGI specifications](https://asgi.readthedocs.io/en/latest/specs/) that concerns an adapter, in our own words, with the
tests that check it. An adapter has two faces: to the application it is a server, to the server an application. Tests in
a class `…Server` check the first, those in a class `…Application` the second; in PEP 3333 the server is `WsgiToAsgi`
and the application `AsgiToWsgi`, in ASGI the other way round.

{clauses} clauses, {tests} tests. The last column says where we deviate from a clause, or what we chose where it leaves
a choice or says nothing.
"""


def sections() -> Iterator[tuple[str, Section]]:
    """Each section with the specification it is of."""
    for specification, parts in TABLE.items():
        for section in parts:
            yield specification, section


def clauses() -> list[Clause]:
    """All clauses, in order."""
    return [clause for _, section in sections() for clause in section.clauses]


def tests_in_table() -> set[str]:
    """The tests that the table names, as `file::class::test`."""
    return {
        f"{section.file}::{test}" for _, section in sections() for clause in section.clauses for test in clause.tests
    }


def tests_in_files() -> set[str]:
    """The tests that there are, found without importing them."""
    found: set[str] = set()
    for path in HERE.glob("test_*.py"):
        for group in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(group, ast.ClassDef):
                names = [node.name for node in group.body if isinstance(node, ast.FunctionDef)]
                found.update(f"{path.name}::{group.name}::{name}" for name in names if name.startswith("test_"))
            elif isinstance(group, ast.FunctionDef) and group.name.startswith("test_"):
                found.add(f"{path.name}::{group.name}")
    return found


def page() -> str:
    """The text of docs/conformance.md."""
    lines = [INTRODUCTION.format(clauses=len(clauses()), tests=len(tests_in_table()))]
    specification = ""
    for name, section in sections():
        if name != specification:
            specification = name
            lines.append(f"## {name}\n")
        lines.append(f"### {section.title}\n")
        lines.append(f"Tests: [{section.file}](../tests/spec/{section.file})\n")
        lines.append("| id | clause | tests | deviation or choice |")
        lines.append("|---|---|---|---|")
        lines.extend(row(clause) for clause in section.clauses)
        lines.append("")
    return "\n".join(lines)


def row(clause: Clause) -> str:
    """One line of a table."""
    tests = "<br>".join(f"`{test}`" for test in clause.tests) or "none"
    return f"| {clause.id} | {clause.text} | {tests} | {clause.note} |"


if __name__ == "__main__":
    sys.stdout.write(page())
