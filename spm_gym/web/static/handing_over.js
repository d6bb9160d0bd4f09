// Hands in the token that was in the address; without scripts the button does.

document.getElementById("token").submit();
