"""What each outcome of an attempt means, what to do about it and who can, in plain words."""

from __future__ import annotations

from dataclasses import dataclass

WEBHOOK, RECEIVER, SERVER, OPERATOR, NOBODY = ("webhook", "receiver", "server", "operator", "")
WHOM = {
    WEBHOOK: "You, or whoever may edit the webhook.",
    RECEIVER: "The receiver’s developer. Send them the text below, or a share link.",
    SERVER: "Whoever runs the receiver’s server, its network and its certificate. Send them the "
    "text below, or a share link.",
    OPERATOR: "The operator of this portal.",
    NOBODY: "",
}
"""Who can mend it."""


@dataclass(frozen=True)
class Diagnosis:
    """What happened in a few words, what it means, what to do, and who can (a key of WHOM).

    `kind` is good, warn (it counts as delivered, and looks wrong) or bad.
    """

    title: str
    meaning: str
    remedy: str = ""
    whom: str = NOBODY
    kind: str = "bad"


ERRORS = {
    "answer_cut_short": Diagnosis(
        "The answer broke off",
        "It ended amid its headers or before its announced length, so its status does not count.",
        "Look for a crash, or for a proxy’s limit, at the receiver.",
        RECEIVER,
    ),
    "bad_answer": Diagnosis(
        "The answer cannot be read",
        "Its compression is broken, or far more bytes came than its headers and body are.",
        "Let the receiver answer with a short body, without compression.",
        RECEIVER,
    ),
    "connect_failed": Diagnosis(
        "No connection",
        "The network or the host cannot be reached from the portal. Nothing was sent.",
        "Check the URL, then the receiver’s firewall and whether its server is up.",
        SERVER,
    ),
    "connect_timeout": Diagnosis(
        "No connection within the time limit",
        "Nobody answered at this address. The host is down, or a firewall drops the packets "
        "silently. Nothing was sent.",
        "Check that the server is up and that its firewall lets the portal in.",
        SERVER,
    ),
    "connection_refused": Diagnosis(
        "The connection was refused",
        "The host is there, and nothing listens on this port. Nothing was sent.",
        "Start the receiver, or correct the port in the webhook’s URL.",
        SERVER,
    ),
    "connection_reset": Diagnosis(
        "The receiver hung up",
        "It closed the connection in the middle. It may or may not have read the request.",
        "Look into the receiver’s log, and that of a proxy before it, at this time.",
        RECEIVER,
    ),
    "dns_failed": Diagnosis(
        "The host name is not known",
        "DNS has no address for the URL’s host name. Nothing was sent.",
        "Check the URL for a typing mistake. If it is right, mend the domain’s DNS.",
        WEBHOOK,
    ),
    "egress_refused": Diagnosis(
        "The portal does not send there",
        "The address is private or reserved. Nothing was sent.",
        "Use a public address, or ask the operator to allow this network (PORTAL_EGRESS_ALLOW).",
        OPERATOR,
    ),
    "empty_answer": Diagnosis(
        "No answer",
        "The receiver took the connection and closed it without a word. It may or may not have "
        "read the request.",
        "Look into the receiver’s log at this time; it has probably crashed.",
        RECEIVER,
    ),
    "headers_too_large": Diagnosis(
        "The answer has too many headers",
        "They are more, or longer, than the portal reads.",
        "Let the receiver answer with fewer: a status is enough.",
        RECEIVER,
    ),
    "http2_error": Diagnosis(
        "HTTP/2 failed",
        "The receiver broke the HTTP/2 protocol.",
        "Update the receiver’s web server, or turn HTTP/2 off there.",
        SERVER,
    ),
    "internal_error": Diagnosis(
        "The portal failed",
        "By a defect of the portal, or by something stored that it cannot work with. It may or may "
        "not have been sent; the receiver has no part in it.",
        "It is tried again by the schedule. If it stays so, show the detail to the operator: the "
        "portal’s log names the place at this time.",
        OPERATOR,
    ),
    "invalid_header": Diagnosis(
        "A header cannot be sent",
        "Its value holds what HTTP does not allow. Nothing was sent.",
        "Correct the webhook’s headers, or the event data that their templates take.",
        WEBHOOK,
    ),
    "invalid_url": Diagnosis(
        "The URL cannot be requested",
        "Nothing was sent.",
        "Correct the URL, or the event data that its parameters take.",
        WEBHOOK,
    ),
    "not_http": Diagnosis(
        "What answered does not speak HTTP",
        "Another service listens on this port.",
        "Check the port, and whether the URL starts with http or https.",
        WEBHOOK,
    ),
    "payload_expired": Diagnosis(
        "Too late to send",
        "The event’s record data went past its days before it could be sent.",
        "Let the store send a new event.",
        WEBHOOK,
    ),
    "request_failed": Diagnosis(
        "The request failed",
        "The detail is what the network library reported.",
        "Try it again. If it stays so, show the detail to the operator.",
        OPERATOR,
    ),
    "request_too_large": Diagnosis(
        "The request is too large",
        "Its URL and headers have more bytes together than the portal sends. Nothing was sent.",
        "Edit the webhook: let the templates of its parameters and headers take less of the event.",
        WEBHOOK,
    ),
    "template_error": Diagnosis(
        "A template failed",
        "A template of the webhook cannot be filled in with this event. Nothing was sent.",
        "Where the template is named as the cause, edit the webhook and correct it; the preview "
        "shows what it makes.",
        WEBHOOK,
    ),
    "timeout": Diagnosis(
        "No answer within the time limit",
        "The receiver took the request and did not answer in time. It may have done the work all "
        "the same, so it can see this event twice.",
        "Let the receiver answer at once and work afterwards, and skip event IDs it knows. Or "
        "raise the webhook’s timeout.",
        RECEIVER,
    ),
    "tls_expired": Diagnosis(
        "The certificate has expired",
        "The portal sends only to receivers it can verify.",
        "Renew the certificate; see why it was not renewed by itself.",
        SERVER,
    ),
    "token_failed": Diagnosis(
        "No access token",
        "The endpoint that gives access tokens gave none; what it said stands above. Nothing was "
        "sent to the target.",
        "Check the token endpoint, the client ID and its secret under Authentication, and that the "
        "client may ask for this scope and audience.",
        WEBHOOK,
    ),
    "token_unavailable": Diagnosis(
        "The token endpoint is away",
        "The endpoint that gives access tokens did not answer, or only that it cannot now. Nothing "
        "was sent to the target.",
        "See that the token endpoint runs and can be reached. Nothing here needs mending when it "
        "is back.",
        SERVER,
    ),
    "tls_client_certificate": Diagnosis(
        "The receiver wants another client certificate",
        "It asked for a certificate of the portal’s side, and got none or one that it does not "
        "take. Nothing was accepted.",
        "Give the certificate that the receiver issued under Authentication, with its chain, or a "
        "new one where it has ended.",
        WEBHOOK,
    ),
    "tls_failed": Diagnosis(
        "The encrypted connection failed",
        "Portal and receiver found no common way to encrypt. Nothing was sent.",
        "Check that this port speaks TLS 1.2 or newer; plain HTTP on it looks the same.",
        SERVER,
    ),
    "tls_not_yet_valid": Diagnosis(
        "The certificate is not valid yet",
        "Its first day lies in the future.",
        "Check the certificate’s dates and the clock of the receiver’s server.",
        SERVER,
    ),
    "tls_self_signed": Diagnosis(
        "The certificate is signed by itself",
        "Anyone could have made it, so the portal cannot know who answers. Nothing was sent.",
        "Install a certificate of a known authority, such as Let’s Encrypt.",
        SERVER,
    ),
    "tls_untrusted": Diagnosis(
        "The certificate is not trusted",
        "No known authority vouches for it, or the chain to one is incomplete. Browsers often "
        "fill the gap in, so that the page seems fine there. Nothing was sent.",
        "Let the server send the whole chain (fullchain.pem), of a known authority.",
        SERVER,
    ),
    "tls_wrong_host": Diagnosis(
        "The certificate is for another host name",
        "Nothing was sent.",
        "Use the host name of the certificate in the URL, or get a certificate for this one.",
        SERVER,
    ),
}
"""Each error code of an attempt."""

STATUSES = {
    400: Diagnosis(
        "The receiver cannot read the request",
        "It answered 400: the shape is not what it takes.",
        "Compare the body with what the receiver expects. Its answer may say what is missing.",
        RECEIVER,
    ),
    401: Diagnosis(
        "The receiver wants credentials",
        "It answered 401: the request lacks a key, or has a wrong one. Or its check of the "
        "signature fails; see the signature check below.",
        "Give the webhook what the receiver asks for: a user or a token under Authentication, or a "
        "header or parameter marked as secret.",
        WEBHOOK,
    ),
    403: Diagnosis(
        "The receiver refuses these credentials",
        "It answered 403: it knows who asks and does not allow it. A firewall, or a check of the "
        "signature that fails, answers so too.",
        "Check what the key may do. If it should work, let the receiver’s developer verify the "
        "signature.",
        RECEIVER,
    ),
    404: Diagnosis(
        "There is nothing at this URL",
        "The host answered 404.",
        "Check the path of the webhook’s URL, letter by letter. If it is right, the receiver "
        "has moved or is not deployed.",
        WEBHOOK,
    ),
    405: Diagnosis(
        "The receiver does not take this method",
        "It answered 405.",
        "Choose another method in the webhook; most receivers take POST.",
        WEBHOOK,
    ),
    408: Diagnosis(
        "The receiver gave up waiting",
        "It answered 408: it did not get the request in its time.",
        "Nothing, if a later attempt succeeds. Otherwise raise the receiver’s time limit.",
        RECEIVER,
    ),
    410: Diagnosis(
        "The receiver asks for no more",
        "It answered 410, so the webhook was disabled.",
        "If that was a mistake, enable the webhook; otherwise delete it.",
        WEBHOOK,
    ),
    413: Diagnosis(
        "The body is too large for the receiver",
        "It answered 413.",
        "Raise the receiver’s limit, or leave the object record out in the webhook.",
        RECEIVER,
    ),
    415: Diagnosis(
        "The receiver does not take this content type",
        "It answered 415.",
        "Set the Content-Type header the receiver expects in the webhook.",
        WEBHOOK,
    ),
    422: Diagnosis(
        "The receiver refuses the content",
        "It answered 422: it read the request, and some value is not what it takes.",
        "Its answer may name the value. Change the body template, or the receiver.",
        RECEIVER,
    ),
    429: Diagnosis(
        "The receiver asks for fewer requests",
        "It answered 429. The portal slows down by itself.",
        "Nothing, if later attempts succeed. Otherwise raise the receiver’s limit.",
        RECEIVER,
    ),
    502: Diagnosis(
        "The receiver’s proxy found nobody behind it",
        "It answered 502: the web server is up, the application is not.",
        "Start the application; look into its log.",
        SERVER,
    ),
    503: Diagnosis(
        "The receiver is not available",
        "It answered 503: overloaded, or under maintenance.",
        "Nothing, if later attempts succeed; the portal slows down and tries again.",
        SERVER,
    ),
    504: Diagnosis(
        "The receiver’s proxy waited in vain",
        "It answered 504: the application behind it took too long.",
        "Let the application answer at once and work afterwards.",
        RECEIVER,
    ),
}
"""Statuses that say something of their own."""
REDIRECT = Diagnosis(
    "Redirected",
    "Redirects are never followed: a signed request goes to its URL and nowhere else.",
    "Use the URL that it redirects to in the webhook.",
    WEBHOOK,
)
SIGN_IN = Diagnosis(
    "Redirected to a page to sign in",
    "The receiver sends whoever is not signed in to a page for people.",
    "Use the receiver’s address for machines, or let it take this path without a sign-in; the "
    "signature proves who sends.",
    RECEIVER,
)
WEB_PAGE = Diagnosis(
    "A web page answered",
    "The status says success, and the answer is an HTML page. A receiver of webhooks has nothing "
    "to show, so it is probably a page to sign in, or a site’s catch-all.",
    "Open the answer below, and check that the URL is the receiver’s own.",
    WEBHOOK,
    kind="warn",
)
CLASSES = {
    2: Diagnosis("Delivered", "The receiver took it.", kind="good"),
    4: Diagnosis(
        "The receiver refuses the request",
        "It answered with an error that it blames on us.",
        "Read its answer below; it may say why.",
        RECEIVER,
    ),
    5: Diagnosis(
        "The receiver failed",
        "It took the request and failed at it: a defect there, not here.",
        "Look into the receiver’s log at this time, for this event ID.",
        RECEIVER,
    ),
}
"""What the other statuses say, by their hundreds."""
ODD = Diagnosis(
    "The answer is not HTTP’s",
    "Its status is none that HTTP knows, so it counts as failed.",
    "Let the receiver answer with a status such as 200.",
    RECEIVER,
)
NO_ANSWER = Diagnosis("No answer came", "Nothing is known about why.", whom=OPERATOR)
