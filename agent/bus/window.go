package bus

// windowWords is how much of a window there is: 64 letters for each word.
const windowWords = 1024

// window knows which of a sender's last letters have come, by their numbers: a ring of
// bits, as RFC 6479 has it. Letters that are older than it are not known to be new.
type window struct {
	highest uint64
	bits    []uint64 // nil until the first letter; of number n is bit n%64 of word n/64%windowWords
}

// old reports whether a letter is older than the window.
func (w *window) old(n uint64) bool { return n/64+windowWords <= w.highest/64 }

// first notes a letter that is not old, and reports whether it is new.
func (w *window) first(n uint64) bool {
	if w.bits == nil {
		w.bits = make([]uint64, windowWords)
	}
	if n > w.highest {
		for word := w.highest/64 + 1; word <= n/64 && word <= w.highest/64+windowWords; word++ {
			w.bits[word%windowWords] = 0
		}
		w.highest = n
	}
	word, bit := n/64%windowWords, uint64(1)<<(n%64)
	if w.bits[word]&bit != 0 {
		return false
	}
	w.bits[word] |= bit
	return true
}
