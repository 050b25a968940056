"""The clauses of the ASGI specifications that concern an adapter, and the tests that hold us to them."""

from spec.clauses import Section, c

ASGI = "test_asgi.py"
HTTP_REQUEST = "test_asgi_http_request.py"
HTTP_RESPONSE = "test_asgi_http_response.py"
EXTENSIONS = "test_asgi_extensions.py"
LIFESPAN = "test_asgi_lifespan.py"

MAIN_SPECIFICATION = (
    Section(
        "Connection Scope; Applications; Legacy Applications",
        (ASGI,),
        (
            c(
                "applications-1",
                "An application is one async callable that takes scope, receive and send.",
                """TestApplicationsServer any_async_callable_is_an_application
                TestApplicationsApplication it_is_one_async_callable""",
            ),
            c(
                "applications-2",
                "It is called once for each connection. In HTTP a connection is a request.",
                "TestApplicationsServer it_is_called_once_for_each_request requests_run_side_by_side",
            ),
            c(
                "applications-3",
                "The scope is a dict with `type` and `asgi`. Its keys are strings.",
                "TestApplicationsServer the_scope_tells_type_and_versions keys_are_strings",
            ),
            c(
                "applications-4",
                "`receive` and `send` return awaitables.",
                "TestApplicationsApplication receive_and_send_need_not_be_coroutine_functions",
            ),
            c(
                "applications-5",
                "An application raises an exception for a protocol that it does not understand.",
                "TestApplicationsApplication a_protocol_it_does_not_know_is_rejected",
            ),
            c(
                "applications-6",
                "Keys that may be missing are not required, and unknown keys are ignored.",
                """TestApplicationsApplication a_scope_of_the_required_keys_is_enough optional_keys_may_be_none
                unknown_keys_are_ignored""",
            ),
            c(
                "applications-7",
                "Applications run in an event loop, on the main thread.",
                "TestApplicationsServer all_requests_share_one_loop",
                note="The WSGI server has the main thread. The loop has a thread of its own, one in each process.",
                deviates=True,
            ),
            c(
                "applications-8",
                "Servers should support the two-callable applications of ASGI 2, and drop them over time.",
                "TestApplicationsServer a_legacy_application_is_refused",
                note="They are not supported: `asgiref.compatibility.guarantee_single_callable` turns them into ASGI"
                " 3.",
                deviates=True,
            ),
            c(
                "applications-9",
                "Each call is independent.",
                """TestContextServer context_variables_do_not_leak_between_requests
                context_variables_of_the_server_reach_the_application
                TestContextApplication context_variables_do_not_leak_between_requests
                context_variables_of_the_server_reach_the_application""",
            ),
        ),
    ),
    Section(
        "Events",
        (ASGI,),
        (
            c(
                "types-1",
                "Events are dicts of strings, bytes, numbers, lists, dicts, booleans and None.",
                "TestApplicationsServer keys_are_strings",
                note="Header pairs, `client` and `server` are tuples: the HTTP format asks for iterables.",
            ),
        ),
    ),
    Section(
        "Middleware",
        (ASGI,),
        (
            c(
                "middleware-1",
                "Changes to a scope must not be seen upstream.",
                """TestMiddlewareServer a_changed_scope_does_not_leak
                TestApplicationsApplication the_scope_is_left_as_it_is""",
            ),
            c(
                "middleware-2",
                "Middleware may pass on another scope, receive and send.",
                "TestMiddlewareServer an_adapter_inside_middleware_gets_what_that_passes",
            ),
        ),
    ),
    Section(
        "Error Handling",
        (ASGI,),
        (
            c(
                "events-1",
                "`send` raises an exception for an invalid event.",
                """TestEventErrorsServer an_invalid_first_event_is_an_error_out_of_send
                an_invalid_later_event_is_an_error_out_of_send""",
            ),
            c(
                "events-2",
                "An invalid event from `receive` is an exception in the application.",
                "TestApplicationsApplication an_invalid_event_is_an_error",
            ),
            c(
                "events-3",
                "Additional keys are not an error.",
                """TestEventErrorsServer additional_keys_are_no_error
                TestApplicationsApplication unknown_keys_are_ignored""",
            ),
            c(
                "events-4",
                "An exception in the application ends its connection, and is reported.",
                """TestEventErrorsServer an_error_terminates_the_connection
                an_application_that_breaks_off_ends_in_an_error an_error_after_the_end_is_logged""",
            ),
            c(
                "events-5",
                "An exception that `send` raised does not harm the server if the application lets it pass.",
                "TestEventErrorsServer an_error_of_send_may_leave_the_application",
            ),
        ),
    ),
    Section(
        "Extra Coroutines",
        (ASGI,),
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
                note="They continue as long as the loop runs, between requests too.",
            ),
        ),
    ),
    Section(
        "Extensions",
        (ASGI,),
        (
            c(
                "extensions-1",
                "A supported extension has a dict under its name. Others are missing.",
                """TestExtensionsServer only_what_the_server_can_honour_is_offered
                an_extension_that_was_not_offered_is_refused""",
            ),
        ),
    ),
)

HTTP_FORMAT = (
    Section(
        "HTTP Connection Scope; WSGI Compatibility; WSGI encoding differences",
        (HTTP_REQUEST,),
        (
            c(
                "scope-1",
                "The keys of the scope correspond to the variables of the environ.",
                "TestScopeApplication the_scope_becomes_the_environ the_state_reaches_the_environ",
            ),
            c("scope-2", "`http_version` is 1.0, 1.1 or 2.", "TestScopeServer the_version_is_one_of_three"),
            c("scope-3", "`method` is upper-case.", "TestScopeServer the_method_is_upper_case"),
            c("scope-4", "`scheme` is the scheme of the URL.", "TestScopeServer the_scheme_is_that_of_the_url"),
            c(
                "scope-5",
                "`path` is decoded from percent-encoding and UTF-8. `root_path` is SCRIPT_NAME.",
                """TestScopeServer the_path_is_decoded_and_whole a_mount_is_decoded_as_the_path_is
                a_path_that_is_no_utf_8_is_served""",
            ),
            c(
                "scope-6",
                "`raw_path` is the path as it was received, without the query.",
                """TestScopeServer the_raw_path_is_what_the_client_sent
                TestScopeApplication the_target_as_it_was_sent_is_kept""",
                note="If the WSGI server does not keep it, the decoded path is quoted again.",
                deviates=True,
            ),
            c("scope-7", "`query_string` is bytes.", "TestScopeServer the_query_string_is_bytes"),
            c(
                "scope-8",
                "`headers` is an iterable of pairs of bytes. Order and repeats are preserved.",
                """TestScopeServer headers_are_pairs_of_bytes headers_can_be_read_twice
                an_empty_variable_is_no_header
                TestScopeApplication header_names_have_no_case headers_are_any_iterable_of_pairs""",
                note="CGI variables have no order and no repeats. So behind a WSGI server, headers have the order"
                " and the joined values that this server gave them, and their names are lower-case.",
                deviates=True,
            ),
            c(
                "scope-9",
                "Cookie headers may repeat in HTTP/2, and are joined with `; `.",
                "TestScopeApplication cookies_of_several_headers_are_one",
            ),
            c(
                "scope-10",
                "`client` is host and port. `server` is host and port, or the path of a socket.",
                "TestScopeServer the_client_is_host_and_port the_server_is_host_and_port_or_a_socket",
                note="The port is 0 if the WSGI server knows only the address of the client.",
                deviates=True,
            ),
            c(
                "scope-11",
                "Servers may add other keys.",
                "TestScopeServer the_environ_can_be_reached",
                note="`wsgi_environ` is the environ of the WSGI server.",
            ),
        ),
    ),
    Section(
        "Request",
        (HTTP_REQUEST,),
        (
            c(
                "request-1",
                "A request has at least one `http.request` event.",
                "TestRequestServer a_request_without_a_body_is_one_empty_event",
            ),
            c(
                "request-2",
                "The bodies of the events concatenate to the body of the request. `more_body` says whether more"
                " follows.",
                """TestRequestServer the_events_add_up_to_the_body
                TestRequestApplication body_and_more_body_are_optional pieces_are_concatenated""",
            ),
            c(
                "request-3",
                "Chunked bodies are decoded.",
                "TestRequestServer a_chunked_body_is_decoded",
                note="The WSGI server does this, and sets `wsgi.input_terminated` to say so. Without that flag, a"
                " body without Content-Length gets 411.",
                deviates=True,
            ),
            c(
                "request-4",
                "The body is streamed as the application requests it.",
                """TestRequestServer nothing_is_read_before_it_is_asked_for a_cancelled_receive_loses_nothing
                the_body_can_be_read_while_the_response_is_sent several_tasks_may_receive
                TestRequestApplication a_request_that_cannot_have_a_body_is_not_asked_for_one
                a_length_of_zero_is_no_body a_body_is_asked_for_and_no_more""",
                note="Reading blocks the thread of the WSGI server. So what the application sends while it waits in"
                " `receive` may leave only when the read has returned.",
                deviates=True,
            ),
            c(
                "request-5",
                "The body breaks off, or its length is not a number: the specification says nothing.",
                """TestRequestServer a_body_that_breaks_off_is_a_disconnect
                a_length_that_is_no_number_is_not_guessed""",
                note="The first is `http.disconnect`. The second gets 400, and the application is not called.",
            ),
        ),
    ),
    Section(
        "Response Start; Response Body",
        (HTTP_RESPONSE,),
        (
            c(
                "response-1",
                "A response is a start, then bodies, of which the last has no `more_body`.",
                """TestResponseApplication one_start_then_bodies_then_the_end nothing_is_sent_after_the_end
                send_is_called_from_the_task_of_the_request""",
            ),
            c("response-2", "`status` is an integer.", "TestResponseApplication the_reason_is_dropped"),
            c(
                "response-3",
                "`headers` is optional. It is an iterable of pairs of bytes with lower-case names.",
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
                "A Transfer-Encoding header of the application is ignored.",
                "TestResponseServer a_transfer_encoding_is_ignored",
            ),
            c(
                "response-6",
                "`body` and `more_body` are optional. Bodies are concatenated.",
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
                "A body follows the rules of HTTP: there is none if the response cannot have one, and it is as long"
                " as Content-Length says.",
                """TestResponseServer a_response_that_has_no_body_carries_none more_than_content_length_is_cut
                less_than_content_length_is_an_error""",
                note="With status 204 or 304 the Content-Length is left out (RFC 9110 8.6): some servers would wait for"
                " as many bytes.",
            ),
        ),
    ),
    Section(
        "Disconnected Client; Disconnect",
        (HTTP_RESPONSE,),
        (
            c(
                "disconnect-1",
                "`receive` returns `http.disconnect` after the response or the connection has ended.",
                """TestDisconnectServer receive_after_the_response_says_disconnect
                receive_that_waits_hears_of_the_end receive_waits_while_the_client_is_there
                closing_early_reaches_a_waiting_receive""",
                note="WSGI servers do not say that a client has left. If their connection can be seen, it is"
                " watched. Otherwise a disconnect is noticed when they fail to write and close the iterable.",
                deviates=True,
            ),
            c(
                "disconnect-2",
                "`send` on a closed connection raises an `OSError`, which is not logged as an error.",
                """TestDisconnectServer send_to_a_client_that_left_raises_an_os_error
                that_error_is_no_error_in_the_log""",
            ),
            c(
                "disconnect-3",
                "The application does not listen for the disconnect: the specification says nothing.",
                "TestDisconnectServer an_application_that_does_not_listen_is_cancelled",
                note="It is cancelled after `disconnect_grace` seconds.",
            ),
            c(
                "disconnect-4",
                "An application learns of the disconnect from `receive` or `send`, or is cancelled.",
                """TestDisconnectApplication a_disconnect_stops_a_stream the_application_can_ask
                send_that_raises_stops_the_application a_request_whose_client_left_before_is_not_run
                a_cancelled_request_stops_the_application a_client_that_leaves_is_no_error_in_the_log""",
                note="A WSGI application that blocks cannot be interrupted. It is stopped at its next chunk,"
                " `read()` or `write()`.",
                deviates=True,
            ),
        ),
    ),
    Section(
        "WebSocket",
        (HTTP_REQUEST,),
        (
            c(
                "websocket-1",
                "A WebSocket that is closed before it is accepted is denied.",
                "TestWebSocketApplication a_handshake_is_denied",
            ),
            c(
                "websocket-2",
                "With the denial extension, the denial is a response.",
                "TestWebSocketApplication a_handshake_is_denied_with_a_response_where_offered",
            ),
            c(
                "websocket-3",
                "An upgrade request to a WSGI server is a WebSocket connection.",
                note="It is one if the [connection of the server](websockets.md) can be used. Otherwise it is an"
                " `http` request, and one warning names the server. The tests are in"
                " `tests/adapters/asgi_to_wsgi/test_websocket.py`.",
                deviates=True,
            ),
        ),
    ),
)

ASGI_EXTENSIONS = (
    Section(
        "Path Send",
        (EXTENSIONS,),
        (
            c(
                "pathsend-1",
                "The application sends the path once, after the start, and no body besides.",
                """TestPathSendServer it_is_offered_where_the_server_wraps_files the_file_is_sent
                it_does_not_mix_with_body_events a_file_that_cannot_be_opened_is_an_error
                a_head_request_sends_no_file
                TestPathSendApplication a_whole_file_is_left_to_the_server""",
            ),
            c(
                "pathsend-2",
                "It is used only if it is offered and fits.",
                """TestPathSendApplication it_is_not_used_unless_it_is_offered
                a_part_of_a_file_is_sent_as_a_body""",
            ),
        ),
    ),
    Section(
        "Early Hints",
        (EXTENSIONS,),
        (
            c(
                "hints-1",
                "The links of each event that is sent before the end of the body become Link headers of a 103.",
                """TestEarlyHintServer it_is_offered_where_the_server_sends_hints links_become_link_headers
                a_hint_within_the_body_is_no_error a_link_that_breaks_the_head_does_not_get_out""",
                note="They are accepted before the start too, as in other servers. After the first body they are"
                " ignored, because HTTP/1.1 has no place for them there.",
                deviates=True,
            ),
        ),
    ),
    Section(
        "HTTP Trailers",
        (EXTENSIONS,),
        (
            c(
                "trailers-1",
                "Trailers follow the body if the server offers them.",
                """TestTrailersServer trailers_are_not_offered_and_refused
                a_start_that_announces_trailers_does_not_hang""",
                note="They are not offered: WSGI cannot send them.",
            ),
        ),
    ),
    Section(
        "HTTP/2 Server Push; Zero Copy Send; Debug",
        (ASGI,),
        (
            c(
                "other-1",
                "Events of extensions that are not offered are unknown events.",
                "TestExtensionsServer an_extension_that_was_not_offered_is_refused",
                note="These extensions are not offered. WSGI has no push; a file descriptor of the application could"
                " not be kept open for the server; and Debug is for tests only.",
            ),
        ),
    ),
    Section(
        "TLS",
        (EXTENSIONS,),
        (
            c(
                "tls-1",
                "The extension is present with TLS, and forbidden without it.",
                """TestTlsServer without_tls_it_is_not_there
                TestTlsApplication without_tls_there_is_none_in_the_environ""",
            ),
            c(
                "tls-2",
                "The entries of `tls` have the given types, and the mandatory ones are present.",
                """TestTlsServer its_entries_have_their_types
                a_client_certificate_is_the_first_of_the_chain
                TestTlsApplication what_the_extension_knows_is_in_the_environ the_smallest_form_is_enough""",
                note="What the WSGI server does not say is None.",
                deviates=True,
            ),
        ),
    ),
)

LIFESPAN_PROTOCOL = (
    Section(
        "Scope",
        (LIFESPAN,),
        (
            c(
                "lifespan-1",
                "The scope has the type, the versions and an empty state.",
                "TestScopeServer the_scope_tells_type_and_versions",
            ),
            c(
                "lifespan-2",
                "There is one lifespan for each event loop, and requests run in the same loop.",
                "TestScopeServer it_is_one_for_the_loop_that_runs_the_requests",
                note="It begins with the first request of a process, because a WSGI application is not told that the"
                " server starts.",
                deviates=True,
            ),
            c(
                "lifespan-3",
                "After an exception, the server continues and sends no lifespan event.",
                """TestScopeServer an_application_that_raises_does_not_support_it
                an_application_that_raises_at_the_startup_event_does_not_support_it
                an_application_that_does_not_answer_does_not_support_it it_can_be_turned_off it_can_be_demanded""",
                note='With `lifespan="on"`, an exception is a failed startup instead.',
            ),
        ),
    ),
    Section(
        "Lifespan State",
        (LIFESPAN,),
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
        (LIFESPAN,),
        (
            c(
                "startup-1",
                "No connection is processed before the startup is complete.",
                """TestStartupServer no_request_runs_before_it_is_complete
                a_startup_that_never_ends_is_an_error""",
            ),
            c(
                "startup-2",
                "After a failed startup, the server logs the message and exits.",
                "TestStartupServer a_failed_startup_is_an_error_that_names_it the_message_is_optional",
                note="A WSGI application cannot end its server. The message is logged, and each request fails with it.",
                deviates=True,
            ),
            c(
                "startup-3",
                "A lifespan that ends too early: the specification says nothing.",
                "TestStartupServer a_lifespan_that_dies_later_does_not_stop_the_requests",
                note="It is logged, and requests continue.",
            ),
            c(
                "startup-4",
                "The application says when its startup is complete or has failed.",
                """TestEventsApplication both_events_are_answered nothing_is_answered_before_it_is_asked
                the_hooks_run_in_their_phases a_startup_that_fails_says_so the_loop_is_free_while_a_hook_runs
                requests_are_served_without_a_lifespan""",
            ),
        ),
    ),
    Section(
        "Shutdown; Shutdown Complete; Shutdown Failed",
        (LIFESPAN,),
        (
            c(
                "shutdown-1",
                "The event is sent when all connections are closed, and the server waits for the answer.",
                """TestShutdownServer closing_waits_for_it closing_twice_asks_once
                without_a_request_there_is_nothing_to_shut_down it_comes_after_the_requests
                it_comes_after_background_work""",
                note="WSGI does not tell an application that the server stops. The shutdown begins with `close()`,"
                " with a hook of the server, or at the exit of the interpreter.",
                deviates=True,
            ),
            c(
                "shutdown-2",
                "After a failed shutdown, the server logs the message and ends.",
                "TestShutdownServer a_failed_shutdown_is_logged an_error_in_it_is_logged",
            ),
            c(
                "shutdown-3",
                "A shutdown that does not end: the specification says nothing.",
                "TestShutdownServer a_shutdown_that_never_ends_does_not_keep_the_process",
                note="After `shutdown_timeout` seconds it is cancelled, and this is logged.",
            ),
            c(
                "shutdown-4",
                "Answers come in the order of the events.",
                "TestShutdownServer an_answer_out_of_order_is_an_error",
            ),
            c(
                "shutdown-5",
                "The application says when its shutdown is complete or has failed.",
                """TestEventsApplication both_events_are_answered a_shutdown_that_fails_says_so
                shutdown_waits_for_running_requests""",
            ),
        ),
    ),
)
