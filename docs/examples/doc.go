// Package examples tests the programs in its directories.
package examples
