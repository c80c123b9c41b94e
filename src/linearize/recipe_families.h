// The recipes whose settings are more than a few numbers, in files of their own.
#pragma once
#include "linearize/recipes.h"

namespace tigon {

extern const Recipe kLigerHgrn2Recipe;
extern const Recipe kLigerGsaRecipe;
extern const Recipe kLigerMamba2Recipe;
extern const Recipe kLigerMlstmRecipe;
extern const Recipe kLigerRetentionRecipe;
extern const Recipe kLigerRwkv6Recipe;
extern const Recipe kLigerAblationRecipe;
extern const Recipe kSupraRecipe;
extern const Recipe kLolcatsRecipe;

}  // namespace tigon
