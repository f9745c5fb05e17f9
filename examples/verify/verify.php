<?php
// Verify a webhook request: Standard Webhooks, or Evox. PHP 8+, nothing beyond it.
// $headers has lower-case names, $body is file_get_contents('php://input').

const TOLERANCE = 5 * 60; // seconds that a clock may be off, or a copied request may be old

/** Whether one of the signatures in webhook-signature was made with this secret. */
function verify_standard(string $secret, array $headers, string $body, ?int $now = null): bool
{
    $id = $headers['webhook-id'] ?? '';
    $timestamp = $headers['webhook-timestamp'] ?? '';
    if (!is_recent($timestamp, $now)) {
        return false;
    }
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    $hash = hash_hmac('sha256', "$id.$timestamp.$body", $key, true);
    return is_one_of('v1,' . base64_encode($hash), explode(' ', $headers['webhook-signature'] ?? ''));
}

/** The same with Evox-Time and Evox-Signature; the key is the secret's text as it stands. */
function verify_evox(string $secret, array $headers, string $body, ?int $now = null): bool
{
    $timestamp = $headers['evox-time'] ?? '';
    if (!is_recent($timestamp, $now)) {
        return false;
    }
    // While secrets rotate, evox-signature-old, -old-2 and so on are signed with those before it.
    $is_signature = fn ($name) => str_starts_with($name, 'evox-signature');
    $given = array_filter($headers, $is_signature, ARRAY_FILTER_USE_KEY);
    return is_one_of(hash_hmac('sha256', "$timestamp.$body", $secret), $given);
}

function is_recent(string $timestamp, ?int $now): bool
{
    return preg_match('/^[0-9]{1,12}$/D', $timestamp)
        && abs(($now ?? time()) - (int) $timestamp) <= TOLERANCE;
}

function is_one_of(string $expected, array $given): bool
{
    foreach ($given as $signature) {
        if (hash_equals($expected, $signature)) {
            return true;
        }
    }
    return false;
}

if (PHP_SAPI === 'cli' && realpath($argv[0]) === __FILE__) {
    // verify.php SECRET "webhook-id: …" "webhook-timestamp: …" "webhook-signature: …" < body
    $headers = [];
    foreach (array_slice($argv, 2) as $line) {
        [$name, $value] = explode(': ', $line, 2);
        $headers[strtolower($name)] = $value;
    }
    $verify = isset($headers['webhook-signature']) ? 'verify_standard' : 'verify_evox';
    $now = getenv('NOW') === false ? null : (int) getenv('NOW');
    $verified = $verify($argv[1], $headers, file_get_contents('php://stdin'), $now);
    echo $verified ? "verified\n" : "refused\n";
    exit($verified ? 0 : 1);
}
