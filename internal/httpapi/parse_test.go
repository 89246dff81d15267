package httpapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/keymeter/keymeter/gen/api"
)

// What the plain parsers accept, the contract's schemas accept too, and it decodes to the same. Bodies are made of
// fragments that are mostly right, so that most are accepted and the others are off by little.
func TestPlainParsersAgreeWithTheContract(t *testing.T) {
	t.Parallel()
	_, contractJSON, err := loadContract()
	require.NoError(t, err)
	compiler, err := newSchemaCompiler(contractJSON)
	require.NoError(t, err)
	batch, err := compiler.Compile(pointer("components", "schemas", "UsageEventBatch"))
	require.NoError(t, err)
	verify, err := compiler.Compile(pointer("components", "schemas", "VerifyKeyRequest"))
	require.NoError(t, err)
	accepted := 0
	check := func(t *rapid.T) {
		body := `{"events":[` + strings.Join(rapid.SliceOfN(drawnObject(eventFields), 1, 3).Draw(t, "events"), ",") + `]}`
		if events, ok := parseEvents(body); ok {
			accepted++
			requireValid(t, batch, body)
			var want api.UsageEventBatch
			require.NoError(t, json.Unmarshal([]byte(body), &want))
			require.Equal(t, want.Events, events)
		}
		body = drawnObject(verifyFields).Draw(t, "verify")
		if r, ok := parseVerify(body); ok {
			accepted++
			requireValid(t, verify, body)
			var want api.VerifyKeyRequest
			require.NoError(t, json.Unmarshal([]byte(body), &want))
			require.Equal(t, want, r)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for range 50 { // one is small
			check(t)
		}
	})
	require.NotZero(t, accepted)
}

func requireValid(t *rapid.T, schema *jsonschema.Schema, body string) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(body)))
	require.NoError(t, err, body)
	require.NoError(t, schema.Validate(value), body)
}

var numbers = []string{"0", "1", "1000000000", "1000000001", "-1", "1.0", "1e3", "01", `"1"`, "null", "", "+1"}

var eventFields = map[string][]string{
	"id":             {`"e1"`, `"e1"`, `"a b"`, `""`, `"é"`, `"\u0041"`, "1", `"` + strings.Repeat("x", 128) + `"`, `"` + strings.Repeat("x", 129) + `"`},
	"accountId":      {`"acct_1a"`, `"acct_"`, `"key_1"`, `"acct_1_2"`, "null", `"acct_` + strings.Repeat("1", 60) + `"`},
	"keyId":          {`"key_1a"`, `"key_"`, `"acct_1"`, `"key_-"`, "null"},
	"category":       {`"tts"`, `"rag"`, `"rag"`, `"TTS"`, `"x"`, "null", "1"},
	"credits":        numbers,
	"quantity":       numbers,
	"outputQuantity": numbers,
	"provider":       {`"gpt-4.1"`, `"a/b"`, `""`, `"` + strings.Repeat("p", 65) + `"`},
	"byok":           {"true", "false", "null", "1"},
	"occurredAt": {
		`"2026-03-21T12:00:00Z"`, `"2026-03-21T12:00:00.123456789+02:00"`, `"2026-03-21t12:00:00z"`, `"2026-03-21T1:00:00Z"`,
		`"2026-02-30T12:00:00Z"`, `"2026-03-21T12:00:00,5Z"`, `"2026-03-21 12:00:00Z"`, `"2026-03-21T12:00:00+24:00"`, `""`,
		`"2026-03-21T24:00:00Z"`, `"2026-03-21T23:59:60Z"`,
	},
	"other": {"1"},
}

var verifyFields = map[string][]string{
	"key":     {`"plabs_sk_live_x"`, `"plabs_sk_live_x"`, `""`, "1", `"` + strings.Repeat("k", 256) + `"`},
	"eventId": {`"e1"`, `""`, `"a b"`},
	"ip":      {`"203.0.113.9"`, `"::1"`, `"::"`, `":"`, `"g::"`, `"2001:db8::` + strings.Repeat("0", 40) + `"`},
	"scope":   {`"tts"`, `"keys:manage"`, `"x"`},
	"cost": {
		`{"category":"tts","credits":1}`, `{"credits":1}`, `{}`, `{"category":"llm","quantity":1,"outputQuantity":2,"provider":"x"}`,
		`{"category":"tts","byok":true}`, `{"category":"tts","other":1}`, "1",
	},
}

// drawnObject draws a JSON object of some of the fields, perhaps one twice, with spaces here and there.
func drawnObject(fields map[string][]string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			values := fields[name]
			if rapid.IntRange(0, 2).Draw(t, name) == 0 && name != "id" && name != "key" && name != "category" {
				continue
			}
			times := 1
			if rapid.IntRange(0, 30).Draw(t, "twice") == 0 {
				times = 2
			}
			for range times {
				value := values[0]
				if rapid.IntRange(0, 4).Draw(t, "odd") == 0 {
					value = rapid.SampledFrom(values).Draw(t, name)
				}
				parts = append(parts, `"`+name+`"`+rapid.SampledFrom([]string{":", " : ", "\n:\t"}).Draw(t, "colon")+value)
			}
		}
		return "{" + strings.Join(parts, rapid.SampledFrom([]string{",", " ,\r\n", ", "}).Draw(t, "comma")) + "}"
	})
}
