"""Which columns most likely hold personal data, by the words in their names: those are masked in previews.

A guess on the safe side, in the languages that survey forms come in; nothing is left out of a load because of it.
"""

from __future__ import annotations

import re
import unicodedata

# A bare "name" is as often a village's or a product's: only names of persons are meant.
_WORDS = re.compile(
    r"\b(?:e ?mail|courriel|correo|phone|telephone|tel|mobile|cell|whatsapp|telefono|celular|telefone|portable"
    r"|aadhaar|aadhar|passport|passeport|pasaporte|ssn|nid|national id|id card|voter id|pan number|cedula|curp|cpf"
    r"|dob|date of birth|birth ?date|date de naissance|fecha de nacimiento|data de nascimento"
    r"|street|home address|postal address|adresse|direccion|endereco|gps|latitude|longitude|geolocation"
    r"|account (?:no|number)|iban|bank account|signature|photo"
    r"|enumerator|surveyor|interviewer|respondent|beneficiary name|caretaker name|patient name|child name"
    r"|(?:first|last|full|sur|family|given|maiden|father|mother|husband|wife|spouse|guardian|your|his|her) ?s? ?name"
    r"|name of (?:the )?(?:respondent|person|patient|child|head|farmer|caretaker|beneficiary|mother|father|interviewer)"
    r"|prenom|nom de famille|apellidos?|sobrenome)\b"
)
_OTHER_SCRIPTS = tuple(
    unicodedata.normalize("NFC", word)
    for word in (
        *("फ़ोन", "फोन", "मोबाइल", "आधार", "ईमेल", "आपका नाम", "पिता का नाम", "जन्म"),
        *("هاتف", "البريد", "телефон", "почта", "电话", "邮箱"),
    )
)


def looks_personal(key: str, label: str) -> bool:
    """Whether the column's key (its last part) or label speaks of a person's contact, identity, place or name."""
    for text in (key.rpartition("/")[2].casefold(), label.casefold()):
        bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
        if _WORDS.search(re.sub(r"[\W_]+", " ", bare)):
            return True
        composed = unicodedata.normalize("NFC", text)
        if any(word in composed for word in _OTHER_SCRIPTS):
            return True
    return False
