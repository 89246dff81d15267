package plans

import (
	"fmt"
	"math"
	"math/big"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func defaultCatalogue(t testing.TB) *Catalogue {
	t.Helper()
	c, err := Load("")
	require.NoError(t, err)
	return c
}

func TestTiers(t *testing.T) {
	t.Parallel()
	c := defaultCatalogue(t)
	want := []struct {
		plan    Plan
		display string
	}{
		{Plan{Free, "Free", "0", 2500, 0, true, 0, ""}, "Free ($0/mo)"},
		{Plan{Starter, "Starter", "29", 50_000, 1000, false, 1, "keymeter_starter_monthly"}, "Starter ($29/mo)"},
		{Plan{Pro, "Pro", "99", 200_000, 800, false, 1, "keymeter_pro_monthly"}, "Pro ($99/mo)"},
		{Plan{Scale, "Scale", "499", 1_000_000, 600, false, 2, "keymeter_scale_monthly"}, "Scale ($499/mo)"},
	}
	for _, w := range want {
		require.Equal(t, w.plan, c.Plan(w.plan.Tier))
		require.Equal(t, w.display, c.Plan(w.plan.Tier).Display())
		if w.plan.StripeLookupKey != "" {
			tier, ok := c.TierOf(w.plan.StripeLookupKey)
			require.True(t, ok)
			require.Equal(t, w.plan.Tier, tier)
		}
	}
	require.Len(t, c.plans, len(want))
	for _, unknown := range []string{"", "keymeter_free_monthly", "keymeter_pro_yearly"} { // free's "" is not a key
		_, ok := c.TierOf(unknown)
		require.False(t, ok, unknown)
	}
}

// prices is the whole price list: credits for 1,000 characters, a minute of audio, 1,000 tokens in and out, a query.
var prices = map[Category]map[string][2]int64{
	TTS: {
		"cartesia": {78}, "elevenlabs": {166}, "deepgram": {30}, "fish-audio": {10}, "resemble-ai": {120}, "inworld": {80},
		"chatterbox": {6}, "pocket-tts": {2}, "kokoro": {4}, "qwen-tts": {4},
	},
	STT: {
		"whisper": {12}, "deepgram": {9}, "elevenlabs": {6}, "fish-audio": {8}, "cartesia": {10}, "mistral": {8}, "groq": {2},
	},
	LLM: {
		"gpt-5.2": {5, 20}, "gpt-4.1": {4, 16}, "gpt-4.1-mini": {1, 3}, "gpt-4.1-nano": {1, 1}, "claude-sonnet-4": {6, 30},
		"claude-haiku-3.5": {2, 8}, "llama-4-maverick": {1, 2}, "llama-4-scout": {1, 1},
	},
	RAG: {"": {2}},
}

// units is how much of a quantity a price is for. Audio comes in seconds.
var units = map[Category]int64{TTS: 1000, STT: 60, LLM: 1000, RAG: 1}

func TestPriceList(t *testing.T) {
	t.Parallel()
	c := defaultCatalogue(t)
	for category, providers := range prices {
		require.Len(t, c.prices[category].providers, len(providers), "providers of %s", category)
		for provider, price := range providers {
			t.Run(fmt.Sprintf("%s %s", category, provider), func(t *testing.T) {
				t.Parallel()
				unit := units[category]
				charge := func(quantity, output int64) int64 {
					credits, err := c.Price(Usage{Category: category, Provider: provider, Quantity: quantity, Output: output})
					require.NoError(t, err)
					return credits
				}
				require.Equal(t, price[0], charge(unit, 0), "a unit")
				require.Equal(t, 7*price[0], charge(7*unit, 0), "seven units")
				require.Zero(t, charge(0, 0), "nothing")
				require.Equal(t, (price[0]+unit-1)/unit, charge(1, 0), "the least, rounded up")
				require.Equal(t, price[0]+(price[0]+unit-1)/unit, charge(unit+1, 0), "a little more than a unit, rounded up")
				if category == LLM {
					require.Equal(t, price[1], charge(0, unit), "a unit of output")
					require.Equal(t, 3*price[0]+5*price[1], charge(3*unit, 5*unit), "both")
				}
			})
		}
	}
}

func TestPriceRoundsUpOnce(t *testing.T) {
	t.Parallel()
	c := defaultCatalogue(t)
	for _, u := range []struct {
		usage Usage
		want  int64
	}{
		{Usage{TTS, "elevenlabs", 250, 0}, 42},    // 41.5
		{Usage{TTS, "kokoro", 250, 0}, 1},         // 1 exactly
		{Usage{TTS, "kokoro", 251, 0}, 2},         // 1.004
		{Usage{STT, "whisper", 1, 0}, 1},          // 0.2
		{Usage{STT, "whisper", 90, 0}, 18},        // 18 exactly
		{Usage{STT, "deepgram", 61, 0}, 10},       // 9.15
		{Usage{LLM, "gpt-4.1-nano", 500, 500}, 1}, // a half and a half
		{Usage{LLM, "gpt-4.1-mini", 100, 300}, 1}, // 0.1 and 0.9
		{Usage{LLM, "gpt-4.1-mini", 101, 300}, 2},
		{Usage{RAG, "", 3, 0}, 6},
		{Usage{RAG, DefaultProvider, 3, 0}, 6},
	} {
		got, err := c.Price(u.usage)
		require.NoError(t, err, "%+v", u.usage)
		require.Equal(t, u.want, got, "%+v", u.usage)
	}
}

func TestPriceRefusals(t *testing.T) {
	t.Parallel()
	c := defaultCatalogue(t)
	for _, u := range []struct {
		usage Usage
		field string
	}{
		{Usage{TTS, "nobody", 1, 0}, "provider"},
		{Usage{TTS, "", 1, 0}, "provider"},
		{Usage{LLM, "", 1, 0}, "provider"},
		{Usage{TTS, "gpt-4.1", 1, 0}, "provider"}, // of another category
		{Usage{RAG, "kokoro", 1, 0}, "provider"},
		{Usage{"video", "kokoro", 1, 0}, "provider"},
		{Usage{TTS, "kokoro", 1, 1}, "outputQuantity"},
		{Usage{RAG, "", 1, 1}, "outputQuantity"},
		{Usage{STT, "whisper", math.MaxInt64, math.MaxInt64}, "outputQuantity"},
		{Usage{RAG, "", math.MaxInt64, 0}, "quantity"},
		{Usage{RAG, "", math.MaxInt64/8 + 1, 0}, "quantity"},
	} {
		_, err := c.Price(u.usage)
		var wrong *PriceError
		require.ErrorAs(t, err, &wrong, "%+v", u.usage)
		require.Equal(t, u.field, wrong.Field, "%+v", u.usage)
		require.Contains(t, err.Error(), u.field+" ")
	}
}

// Each of a few prices near the limit can be added up without overflow; what is beyond is refused.
func TestPriceLimit(t *testing.T) {
	t.Parallel()
	c, err := Parse([]byte(another))
	require.NoError(t, err)
	limit := int64(math.MaxInt64 / 4)
	for _, u := range []Usage{
		{RAG, "", limit / 2, 0},        // 2 credits each
		{STT, "", limit / 3, 0},        // 3 credits each
		{LLM, "mine", 0, limit / 1000}, // 1,000 credits each
	} {
		prices := c
		if u.Category == RAG {
			prices = defaultCatalogue(t)
		}
		credits, err := prices.Price(u)
		require.NoError(t, err, "%+v", u)
		require.Positive(t, credits)
		require.LessOrEqual(t, credits, limit)
		require.Greater(t, credits, limit-1000)
		more := u
		if u.Output > 0 {
			more.Output++
		} else {
			more.Quantity++
		}
		_, err = prices.Price(more)
		var wrong *PriceError
		require.ErrorAs(t, err, &wrong, "%+v", more)
		require.Equal(t, "quantity", wrong.Field)
	}
	for _, u := range []Usage{
		{LLM, "mine", math.MaxInt64, math.MaxInt64}, {LLM, "mine", 0, math.MaxInt64}, {STT, "", math.MaxInt64, 0},
	} {
		_, err := c.Price(u)
		require.Error(t, err, "%+v", u)
	}
	got, err := c.Price(Usage{LLM, "mine", math.MaxInt64, 0})
	require.NoError(t, err, "a quantity that large may still cost little")
	require.Equal(t, int64(64563604257984), got) // MaxInt64 * 7 / 1,000,000
}

// A price is exact for every quantity, or refused because sums of it could overflow; it is never wrong.
func TestPriceIsExact(t *testing.T) {
	t.Parallel()
	c := defaultCatalogue(t)
	limit := new(big.Int).SetInt64(math.MaxInt64 / 4)
	rapid.Check(t, func(t *rapid.T) {
		category := rapid.SampledFrom([]Category{TTS, STT, LLM, RAG}).Draw(t, "category")
		u := Usage{Category: category}
		for provider := range prices[category] { // the draw below is by name, so that it is the same in each run
			u.Provider = max(u.Provider, provider)
		}
		quantity := rapid.OneOf(rapid.Int64Range(0, 10_000), rapid.Int64Range(0, math.MaxInt64))
		u.Quantity = quantity.Draw(t, "quantity")
		if category == LLM {
			u.Output = quantity.Draw(t, "output")
		}
		price := prices[category][u.Provider]
		exact := new(big.Int).Mul(big.NewInt(u.Quantity), big.NewInt(price[0]))
		exact.Add(exact, new(big.Int).Mul(big.NewInt(u.Output), big.NewInt(price[1])))
		exact.Add(exact, big.NewInt(units[category]-1))
		exact.Div(exact, big.NewInt(units[category]))

		got, err := c.Price(u)
		if exact.Cmp(limit) > 0 {
			var wrong *PriceError
			require.ErrorAs(t, err, &wrong)
			require.Equal(t, "quantity", wrong.Field)
			return
		}
		require.NoError(t, err)
		require.Equal(t, exact.Int64(), got)
	})
}
