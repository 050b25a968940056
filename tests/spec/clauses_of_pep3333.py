"""The clauses of PEP 3333 that concern an adapter, and the tests that hold us to them."""

from spec.clauses import Section, c

OVERVIEW = "test_pep3333_overview.py"
ENVIRON = "test_pep3333_environ.py"
RESPONSE = "test_pep3333_response.py"
ERRORS_AND_HTTP = "test_pep3333_errors_and_http.py"

PEP_3333 = (
    Section(
        "Specification Overview",
        (OVERVIEW,),
        (
            c(
                "overview-1",
                "An application is any kind of callable. It is called, not introspected.",
                """TestOverviewServer any_kind_of_callable_is_an_application
                what_is_no_application_is_refused_at_construction
                TestOverviewApplication what_is_no_asgi_application_is_refused_at_construction""",
                note="The signature is read once, when the adapter is made. So a callable with the wrong arguments is"
                " a `TypeError` there, and not an error in each request. A callable whose signature cannot be read is"
                " accepted.",
                deviates=True,
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
        (
            OVERVIEW,
            RESPONSE,
        ),
        (
            c(
                "strings-1",
                "Strings passed to the application are `str` with code points up to U+00FF.",
                """TestStringsServer strings_are_native_and_latin_1
                paths_are_the_utf_8_bytes_in_native_strings""",
            ),
            c(
                "strings-2",
                "Strings from the application with higher code points are a fatal error. Others are sent as their"
                " bytes.",
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
        (OVERVIEW,),
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
                "Each bytestring is sent before the next one is requested.",
                """TestDetailsServer a_chunk_is_sent_before_the_next_is_asked_for
                the_iterable_is_not_consumed_ahead_of_the_client
                TestDetailsApplication each_chunk_is_yielded_when_it_is_there""",
                note="As Buffering and Streaming allows, a bounded number of bytes may be on its way in another"
                " thread while the application produces the next block.",
            ),
            c(
                "details-6",
                "If the iterable has a working `len()`, it is correct and may be relied on.",
                """TestDetailsServer the_length_of_an_iterable_is_believed
                TestDetailsApplication a_working_len_is_accurate""",
            ),
            c(
                "details-7",
                "`close()` of the iterable is always called: at the end, after an error, after a disconnect.",
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
                "`start_response` is called before the first bytestring: at the latest in the first iteration.",
                """TestDetailsServer start_response_may_wait_for_the_first_iteration
                TestDetailsApplication start_response_is_called_once_and_before_the_body""",
                note="`AsgiToWsgi` calls it before it returns, because some servers look for the headers then.",
            ),
            c(
                "details-10",
                "No other attribute of the iterable is used.",
                "TestDetailsServer only_the_iterator_protocol_and_close_are_used",
            ),
            c(
                "details-11",
                "Both sides pass the checks of `wsgiref.validate`.",
                """TestDetailsServer the_standard_library_finds_nothing_wrong
                TestDetailsApplication the_standard_library_finds_nothing_wrong""",
            ),
        ),
    ),
    Section(
        "environ Variables",
        (ENVIRON,),
        (
            c("environ-1", "REQUEST_METHOD is always present.", "TestEnvironServer the_method_is_there"),
            c(
                "environ-2",
                "SCRIPT_NAME is the mount point, PATH_INFO is the rest of the path.",
                "TestEnvironServer script_name_and_path_info_split_the_path",
            ),
            c(
                "environ-3",
                "QUERY_STRING is what follows `?`.",
                "TestEnvironServer the_query_string_is_not_decoded",
            ),
            c(
                "environ-4",
                "CONTENT_TYPE and CONTENT_LENGTH come from the headers of these names.",
                "TestEnvironServer content_type_and_length_have_no_prefix",
            ),
            c(
                "environ-5",
                "SERVER_NAME and SERVER_PORT are strings and never empty.",
                "TestEnvironServer server_name_and_port_are_never_empty",
                note="If the ASGI server does not say the port, or listens on a Unix socket, it is the default port"
                " of the scheme.",
            ),
            c(
                "environ-6",
                "SERVER_PROTOCOL is the protocol of the client.",
                "TestEnvironServer the_protocol_is_the_clients",
            ),
            c(
                "environ-7",
                "Each header is an HTTP_ variable.",
                """TestEnvironServer headers_become_http_variables repeated_headers_are_joined
                headers_that_could_pass_for_others_are_dropped""",
                note="Headers with a `_` in their name are dropped: they would look like the header with `-`, which"
                " the application may trust because its proxy sets it. `Proxy` is dropped too, because libraries take"
                " HTTP_PROXY for a setting.",
                deviates=True,
            ),
            c(
                "environ-8",
                "With TLS, Apache's variables should be present, such as HTTPS and SSL_PROTOCOL.",
                "TestEnvironServer tls_is_told_in_the_apache_variables",
            ),
            c(
                "environ-9",
                "As many other CGI variables as apply should be present.",
                "TestEnvironServer the_peer_is_told",
            ),
            c(
                "environ-10",
                "Variables without a value are left out.",
                "TestEnvironServer what_the_client_did_not_send_is_left_out",
                note="REMOTE_ADDR is empty if the client is not known, because RFC 3875 4.1.8 wants it to be set.",
                deviates=True,
            ),
            c("environ-11", "The `wsgi.` variables are present.", "TestEnvironServer the_wsgi_variables_are_there"),
            c(
                "environ-12",
                "The server's own variables have lower-case names with a prefix.",
                "TestEnvironServer variables_of_our_own_are_named_by_the_rule",
            ),
            c(
                "environ-13",
                "Variables of the operating system may be present.",
                "TestEnvironServer the_process_environment_stays_outside",
                note="They are left out: a variable with the name of a CGI variable would be taken for a part of the"
                " request.",
            ),
        ),
    ),
    Section(
        "Input and Error Streams",
        (ENVIRON,),
        (
            c(
                "streams-1",
                "read, readline, readlines and iteration of `wsgi.input` work as for a file.",
                """TestInputServer input_behaves_as_a_file the_input_is_read_on_demand
                the_input_can_be_read_while_the_response_is_sent""",
            ),
            c(
                "streams-2",
                "After the end of the body, reading returns empty bytes, as at the end of a file.",
                """TestInputServer reading_past_the_end_gives_empty_bytes
                a_request_without_a_body_has_an_empty_input""",
            ),
            c(
                "streams-3",
                "Nothing beyond Content-Length is read or passed on.",
                """TestInputServer the_input_ends_at_content_length
                TestInputApplication no_more_than_content_length_is_read
                without_content_length_nothing_is_read""",
            ),
            c(
                "streams-4",
                "The client leaves before the end of its body: the PEP says nothing.",
                "TestInputServer a_body_that_breaks_off_never_looks_whole",
                note="Reading raises `ClientDisconnected`, an `OSError`, so that half a body never looks like a"
                " whole one.",
            ),
            c(
                "streams-5",
                "`wsgi.errors` has write, writelines and flush, and accepts any text.",
                "TestInputServer errors_takes_text",
            ),
            c(
                "streams-6",
                "The application uses no other method, and does not close the streams.",
                "TestInputApplication the_streams_are_not_closed",
                note="If the server is known to show the buffers and the file descriptor of its connection, these"
                " are used to read without waiting, and to notice that a client has left.",
                deviates=True,
            ),
        ),
    ),
    Section(
        "The start_response() Callable",
        (RESPONSE,),
        (
            c("start-1", "It returns `write`.", "TestStartResponseServer it_returns_a_write_callable"),
            c(
                "start-2",
                "The status is a code, a space and a reason, without control characters.",
                """TestStartResponseServer the_status_is_the_code_of_the_string
                a_bad_status_is_refused_in_the_call a_status_without_a_reason_is_taken
                TestStartResponseApplication the_status_has_code_and_reason""",
                note="A code without a reason is accepted. HTTP allows it, and the ASGI server gets only the code.",
                deviates=True,
            ),
            c(
                "start-3",
                "Headers are a list of pairs of strings, with valid names and no control characters. This is checked"
                " in the call.",
                """TestStartResponseServer a_bad_header_is_refused_in_the_call the_list_may_be_used_again
                TestStartResponseApplication headers_are_a_list_of_pairs_of_native_strings
                a_header_that_breaks_the_head_does_not_get_out""",
            ),
            c(
                "start-4",
                "Hop-by-hop headers are a fatal error.",
                """TestStartResponseServer a_hop_by_hop_header_does_not_get_out
                TestStartResponseApplication no_hop_by_hop_header_gets_out""",
                note="They are dropped instead, with one warning: views that pass on the headers of another server"
                " send them, and Gunicorn drops them too. `bridge check` reports them.",
                deviates=True,
            ),
            c(
                "start-5",
                "The server adds headers that HTTP requires and the application omits.",
                "TestStartResponseServer headers_keep_order_and_repeats",
                note="The ASGI server adds Date, Server and the framing. If the adapter added them, they would be"
                " there twice.",
            ),
            c(
                "start-6",
                "Headers are sent with the first bytes of the body or at its end, not before.",
                """TestStartResponseServer an_empty_chunk_does_not_send_the_headers
                the_headers_leave_with_the_first_bytes
                the_headers_leave_at_the_end_of_an_empty_body""",
            ),
            c(
                "start-7",
                "`exc_info` replaces the headers if they have not been sent.",
                """TestStartResponseServer an_empty_chunk_does_not_send_the_headers
                a_call_after_a_failed_one_needs_exc_info""",
            ),
            c(
                "start-8",
                "`exc_info` is raised again if the headers have been sent.",
                "TestStartResponseServer exc_info_after_the_headers_raises_it_again",
            ),
            c(
                "start-9",
                "Another call without `exc_info` is a fatal error, even if the first call raised.",
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
        (
            RESPONSE,
            OVERVIEW,
        ),
        (
            c(
                "length-1",
                "No more bytes are sent than Content-Length allows. The iteration stops there.",
                """TestContentLengthServer no_more_than_it_says_is_sent a_list_that_is_too_long_is_cut
                iteration_stops_when_enough_was_sent""",
                note="The adapter also logs that there were more.",
            ),
            c(
                "length-2",
                "`write()` beyond Content-Length is an error.",
                "TestContentLengthServer writing_past_it_is_an_error",
            ),
            c(
                "length-3",
                "If there are too few bytes, the connection is closed and the error is reported.",
                """TestContentLengthServer too_little_aborts_the_connection
                too_little_at_once_is_not_sent_at_all""",
            ),
            c(
                "length-4",
                "A Content-Length that is not a number, or two that differ: the PEP says nothing.",
                """TestContentLengthServer a_length_that_is_no_number_is_refused
                two_lengths_that_differ_are_refused""",
                note="`start_response` rejects it.",
            ),
            c(
                "length-5",
                "Without a Content-Length, the server may compute it if the body is one bytestring, or frame the"
                " body itself.",
                """TestDetailsServer the_length_of_an_iterable_is_believed
                TestContentLengthServer a_stream_without_it_gets_none
                TestDetailsApplication a_small_response_is_a_list_of_one""",
            ),
            c(
                "length-6",
                "Otherwise Content-Length is passed on.",
                """TestContentLengthServer zero_is_a_length
                TestStartResponseApplication content_length_passes""",
                note="With status 204 or 304 it is left out (RFC 9110 8.6): some servers would wait for as many bytes.",
            ),
        ),
    ),
    Section(
        "Buffering and Streaming; The write() Callable",
        (RESPONSE,),
        (
            c("streaming-1", "No block is held back.", "TestStreamingServer no_block_is_delayed"),
            c(
                "write-1",
                "When `write()` returns, its bytes have been sent or are on their way.",
                """TestStreamingServer what_is_written_is_sent_while_the_application_runs
                writing_waits_for_a_slow_client writing_to_a_client_that_left_raises""",
            ),
            c(
                "write-2",
                "Yielded bytestrings follow the bytes that were written.",
                "TestStreamingServer what_is_yielded_follows_what_was_written",
            ),
            c(
                "write-3",
                "The application returns an iterable even if it uses `write()`.",
                "TestStreamingServer an_iterable_is_needed_also_after_write",
            ),
            c("write-4", "`write()` accepts bytes.", "TestStreamingServer write_takes_bytes_alone"),
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
        (ERRORS_AND_HTTP,),
        (
            c(
                "errors-1",
                "An exception out of the application or its iteration is caught and logged.",
                """TestErrorsServer an_error_before_the_headers_is_logged_and_nothing_is_sent
                an_error_after_the_headers_is_logged_and_aborts
                no_error_of_an_application_ends_the_server an_error_does_not_cost_a_thread""",
                note="After that it is raised to the ASGI server, which answers 500 or aborts the connection.",
            ),
            c(
                "errors-2",
                "Applications should catch their errors and show a page.",
                """TestErrorsApplication an_error_before_the_body_is_raised_from_the_call
                an_error_within_the_body_is_raised_from_the_iterator
                an_error_of_start_response_reaches_the_server middleware_sees_the_exception""",
                note="`AsgiToWsgi` has no page to show. It logs what the ASGI application raised, and raises it to"
                " the WSGI server and its middleware, which handle errors.",
                deviates=True,
            ),
        ),
    ),
    Section(
        "HTTP 1.1 Expect/Continue; Other HTTP Features; Thread Support",
        (
            ERRORS_AND_HTTP,
            RESPONSE,
        ),
        (
            c(
                "http-1",
                "Expect/Continue is supported transparently.",
                "TestOtherHttpServer the_body_of_an_expect_request_is_asked_for",
                note="The ASGI server does this: it sends `100 Continue` when the body is requested.",
            ),
            c(
                "http-2",
                "The application has complete control over its output.",
                "TestOtherHttpServer the_application_rules_its_output",
            ),
            c(
                "http-3",
                "The server decodes the transfer encodings of requests.",
                "TestOtherHttpServer a_chunked_body_is_there_to_be_read",
                note="Such a body is collected and gets a CONTENT_LENGTH, because some frameworks read nothing"
                " without one. With `stream_chunked` it is streamed, and `wsgi.input_terminated` says that the input"
                " ends with the body.",
            ),
            c(
                "http-4",
                "Responses that cannot have a body (RFC 9110 6.4.1) have none.",
                """TestOtherHttpServer a_response_that_has_no_body_carries_none
                the_length_of_a_head_response_is_left_alone
                TestStartResponseApplication a_response_that_has_no_body_carries_none""",
            ),
            c(
                "threads-1",
                "An application can be run in a single thread.",
                "TestOtherHttpServer one_thread_runs_one_request_at_a_time",
            ),
            c(
                "threads-2",
                "Otherwise requests run in parallel, each in one thread from the call to `close()`.",
                """TestOtherHttpServer requests_run_side_by_side a_request_keeps_its_thread""",
            ),
        ),
    ),
    Section(
        "Server Extension APIs; URL Reconstruction; Optional Platform-Specific File Handling",
        (ERRORS_AND_HTTP,),
        (
            c(
                "notes-1",
                "Extensions that bypass WSGI must agree with what middleware did to `environ`.",
                "TestNotesServer the_scope_can_be_reached_but_shows_no_secret",
                note='`environ["asgi.scope"]` shows the request as it was received, not as middleware changed it. It'
                " replaces nothing. Its `repr` hides the values of headers, because debug pages print an environ.",
                deviates=True,
            ),
            c("notes-2", "The URL can be reconstructed.", "TestNotesServer the_url_can_be_put_together_again"),
            c(
                "file-1",
                "`wsgi.file_wrapper` takes a file-like object and optionally a block size, and returns an iterable.",
                """TestFileWrapperServer a_file_like_object_is_sent it_is_an_iterable_for_middleware
                an_error_of_the_file_fails_the_request""",
            ),
            c(
                "file-2",
                "The file is sent only if the wrapper is returned.",
                "TestFileWrapperServer nothing_is_sent_unless_it_is_returned",
            ),
            c(
                "file-3",
                "Its `close()` closes the file.",
                "TestFileWrapperServer close_closes_the_file a_head_request_sends_no_file",
            ),
            c(
                "file-4",
                "The file is sent from its current position to its end, or to Content-Length.",
                """TestFileWrapperServer it_begins_where_the_file_stands it_ends_at_content_length
                a_file_is_read_where_the_server_cannot_send_it""",
            ),
            c(
                "file-5",
                "The server recognizes its wrapper as the return value.",
                "TestFileWrapperApplication the_wrapper_of_the_server_is_returned_itself",
            ),
        ),
    ),
)
