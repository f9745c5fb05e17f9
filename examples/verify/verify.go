// Verify a webhook request: Standard Webhooks, or Evox. Go 1.19+, standard library only.
// header gives a header's value by its lower-case name (http.Header.Get does), body is the raw
// bytes as they came in.
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

const tolerance = 5 * 60 // seconds that a clock may be off, or a copied request may be old

// VerifyStandard says whether one of the signatures in webhook-signature was made with this secret.
func VerifyStandard(secret string, header func(string) string, body []byte, now int64) bool {
	id, timestamp := header("webhook-id"), header("webhook-timestamp")
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil || !isRecent(timestamp, now) {
		return false
	}
	hash := sum(key, id+"."+timestamp+".", body)
	expected := "v1," + base64.StdEncoding.EncodeToString(hash)
	return isOneOf(expected, strings.Fields(header("webhook-signature")))
}

// VerifyEvox does the same with Evox-Time and Evox-Signature; the key is the secret's text.
func VerifyEvox(secret string, header func(string) string, body []byte, now int64) bool {
	timestamp := header("evox-time")
	if !isRecent(timestamp, now) {
		return false
	}
	expected := hex.EncodeToString(sum([]byte(secret), timestamp+".", body))
	// While secrets rotate, these are signed with those before it, the newest first.
	given := []string{header("evox-signature"), header("evox-signature-old")}
	for number := 2; number <= 5; number++ {
		given = append(given, header("evox-signature-old-"+strconv.Itoa(number)))
	}
	return isOneOf(expected, given)
}

func sum(key []byte, prefix string, body []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(prefix))
	mac.Write(body)
	return mac.Sum(nil)
}

func isRecent(timestamp string, now int64) bool {
	sent, err := strconv.ParseUint(timestamp, 10, 40)
	return err == nil && now-int64(sent) <= tolerance && int64(sent)-now <= tolerance
}

func isOneOf(expected string, given []string) bool {
	for _, signature := range given {
		if hmac.Equal([]byte(expected), []byte(signature)) {
			return true
		}
	}
	return false
}

// verify SECRET "webhook-id: …" "webhook-timestamp: …" "webhook-signature: …" < body
func main() {
	headers := map[string]string{}
	for _, line := range os.Args[2:] {
		name, value, _ := strings.Cut(line, ": ")
		headers[strings.ToLower(name)] = value
	}
	header := func(name string) string { return headers[name] }
	body, err := io.ReadAll(os.Stdin)
	now, fixed := strconv.ParseInt(os.Getenv("NOW"), 10, 64)
	if fixed != nil {
		now = time.Now().Unix()
	}
	verify := VerifyEvox
	if header("webhook-signature") != "" {
		verify = VerifyStandard
	}
	if err != nil || !verify(os.Args[1], header, body, now) {
		fmt.Println("refused")
		os.Exit(1)
	}
	fmt.Println("verified")
}
