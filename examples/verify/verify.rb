# Verify a webhook request: Standard Webhooks, or Evox. Ruby 3+, standard library only.
# `headers` has lower-case names, `body` is the raw text as it came in (request.body.read).

require "openssl"

TOLERANCE = 5 * 60 # seconds that a clock may be off, or a copied request may be old

# Whether one of the signatures in webhook-signature was made with this secret.
def verify_standard(secret, headers, body, now = Time.now.to_i)
  id = headers.fetch("webhook-id", "")
  timestamp = headers.fetch("webhook-timestamp", "")
  return false unless recent?(timestamp, now)

  key = secret.delete_prefix("whsec_").unpack1("m")
  hash = OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{timestamp}.".b + body.b)
  expected = "v1,#{[hash].pack('m0')}"
  headers.fetch("webhook-signature", "").split.any? { |given| OpenSSL.secure_compare(expected, given) }
end

# The same with Evox-Time and Evox-Signature; the key is the secret's text as it stands.
def verify_evox(secret, headers, body, now = Time.now.to_i)
  timestamp = headers.fetch("evox-time", "")
  return false unless recent?(timestamp, now)

  expected = OpenSSL::HMAC.hexdigest("SHA256", secret, "#{timestamp}.".b + body.b)
  # While secrets rotate, evox-signature-old, -old-2 and so on are signed with those before it.
  given = headers.select { |name, _| name.start_with?("evox-signature") }.values
  given.any? { |signature| OpenSSL.secure_compare(expected, signature) }
end

def recent?(timestamp, now)
  timestamp.match?(/\A[0-9]{1,12}\z/) && (now - timestamp.to_i).abs <= TOLERANCE
end

if $PROGRAM_NAME == __FILE__
  # verify.rb SECRET "webhook-id: …" "webhook-timestamp: …" "webhook-signature: …" < body
  secret, *lines = ARGV
  headers = lines.to_h { |line| line.split(": ", 2) }.transform_keys(&:downcase)
  now = ENV.fetch("NOW", Time.now).to_i
  verify = headers.key?("webhook-signature") ? :verify_standard : :verify_evox
  verified = send(verify, secret, headers, $stdin.binmode.read, now)
  puts(verified ? "verified" : "refused")
  exit(verified)
end
